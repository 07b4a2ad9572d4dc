"""Error messages as they go into a report."""

from __future__ import annotations

from benchmarks.errors import LONGEST, brief, describe


def test_paths_and_further_lines_are_left_out() -> None:
    assert brief("\n cannot open /some/where/lib.so: no\nmore") == "cannot open <path>: no"
    assert brief("a / b and 1/2 stay") == "a / b and 1/2 stay"


def test_long_messages_are_cut_and_empty_ones_are_said() -> None:
    assert len(brief("x" * 1000)) == LONGEST
    assert brief("") == "no message"
    assert describe(KeyError("name")) == "KeyError: 'name'"
