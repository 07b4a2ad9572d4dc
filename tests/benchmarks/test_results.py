"""The results file: round trip, whole writes, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.errors import InputError
from benchmarks.results import Results

COMMITTED = sorted((Path(results.__file__).parent / "results").glob("*.json"))


def test_round_trip(make_results: Callable[..., Results], tmp_path: Path) -> None:
    run = make_results()
    results.save(run, tmp_path / "sub" / "run.json")
    assert results.load(tmp_path / "sub" / "run.json") == run


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    results.write_atomically(path, "old")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.write_atomically(path, "new")
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "old"


def test_what_came_later_may_be_missing(
    make_results: Callable[..., Results], tmp_path: Path
) -> None:
    run, path = make_results(), tmp_path / "run.json"
    results.save(run, path)
    data = json.loads(path.read_text())
    for owner, field in [
        (data, "copies"),
        (data["cases"][0], "exactness"),
        (data["cases"][0]["timings"][0], "items_per_second"),
    ]:
        del owner[field]
    path.write_text(json.dumps(data))
    assert results.load(path) == run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "torn off"),
        (lambda text: "[]", "not a results file"),
        (lambda text: text.replace('"version": 2', '"version": 99'), "version 99.*versions 1 to 2"),
        (lambda text: text.replace('"quick"', '"quack"'), "lacks quick"),
        (lambda text: text.replace('"rounds": 30', '"rounds": "many"'), "rounds: wanted int"),
        (lambda text: text.replace('"cases": [', '"cases": 3, "rest": [', 1), "wanted a list"),
    ],
)
def test_bad_files_are_refused_in_words(
    make_results: Callable[..., Results],
    tmp_path: Path,
    change: Callable[[str], str],
    message: str,
) -> None:
    path = tmp_path / "run.json"
    results.save(make_results(), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
        results.load(path)


def test_version_1_named_the_inputs_otherwise(
    make_results: Callable[..., Results], tmp_path: Path
) -> None:
    run, path = make_results(), tmp_path / "run.json"
    results.save(run, path)
    text = path.read_text().replace('"inputs"', '"views"')
    path.write_text(text.replace('"version": 2', '"version": 1'))
    assert results.load(path) == run


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_published_files_load_and_render(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.report import write_report

    run = results.load(path)
    assert all(error.inputs for result in run.cases for error in result.errors)
    markdown, html = write_report([run], tmp_path)
    assert run.command in markdown.read_text()
    assert run.command in html.read_text()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        results.load(tmp_path / "none.json")


def test_the_file_is_plain_json(make_results: Callable[..., Results], tmp_path: Path) -> None:
    results.save(make_results(), tmp_path / "run.json")
    data = json.loads((tmp_path / "run.json").read_text())
    assert (data["format"], data["version"]) == (results.FORMAT, results.VERSION)
    assert data["cases"][0]["case"]["shape"] == [512, 128]
