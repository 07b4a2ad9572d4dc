from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sslkernels.train.errors import TrainError
from sslkernels.train.text import corpus, tokenizer, tokens
from sslkernels.train.text.examples import Pairs, Windows, fold
from sslkernels.train.text.tokenizer import CLS, MASK, PAD, SEP, SPECIAL_IDS
from tests.train.commands import train


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


# Corpus


def test_the_library_is_found_without_tests_and_packages():
    paths = [path.as_posix() for path in corpus.files("stdlib")]
    assert any(path.endswith("/json/decoder.py") for path in paths)
    assert not any(re.search("/(test|tests|site-packages)/", path) for path in paths)
    assert paths == sorted(paths)


def test_every_tenth_file_is_held_out_and_nothing_is_lost(tmp_path):
    written = write(tmp_path / "a", **{f"{i:02}_txt": f"text {i}\n" for i in range(30)})
    loaded = corpus.load(str(written), 1)
    assert loaded.test == ["text 9\n", "text 19\n", "text 29\n"]
    assert sorted(loaded.train + loaded.test) == sorted(f"text {i}\n" for i in range(30))


def test_only_text_is_read_at_any_depth(tmp_path):
    write(tmp_path, **{f"{i:02}_md": f"{i}\n" for i in range(20)}, bad_csv="no", empty_txt=" \n")
    write(tmp_path / "deeper", more_py="deep")
    loaded = corpus.load(str(tmp_path), 1)
    assert len(loaded.train + loaded.test) == 21
    assert "deep" in loaded.train + loaded.test


def test_few_files_are_cut_into_documents_at_line_ends(tmp_path):
    text = "".join(f"line {i}\n" for i in range(1000))
    loaded = corpus.load(str(write(tmp_path, one_txt=text)), 1)
    assert 20 <= len(loaded.train) + len(loaded.test) <= 22
    assert all(document.endswith("\n") for document in loaded.train + loaded.test)
    assert sum(map(len, loaded.train + loaded.test)) == len(text)


def test_of_too_much_text_a_sample_is_read_the_same_every_time(tmp_path):
    write(tmp_path, **{f"{i:03}_txt": f"{i:03}" * 1000 for i in range(200)})
    first, again = (corpus.load(str(tmp_path), 0.15) for _ in range(2))
    assert first == again
    texts = first.train + first.test
    assert sum(map(len, texts)) == 150_000
    # 50 of 200 files: not just the first by name.
    assert max(int(text[:3]) for text in texts) > 150
    assert corpus.load(str(tmp_path), 1).fingerprint != first.fingerprint


def test_files_that_are_not_utf8_are_named_and_strict_stops_there(folder):
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    named = r"1 of \d+ files skipped: \S*latin\.txt \(UnicodeDecodeError: .*0xe9.*\)"
    assert re.fullmatch(named, corpus.load(str(folder), 1).skipped)
    loaded = tokens.load(str(folder), 1, 300, resume_from=None)
    assert re.search(f"; {named}$", loaded.note)
    with pytest.raises(TrainError, match=r"1 of \d+ files cannot be read: \S*latin\.txt \("):
        tokens.load(str(folder), 1, 300, resume_from=None, strict=True)


def test_strict_is_an_option_of_text(folder, tmp_path):
    (folder / "latin.txt").write_bytes(b"\xff")
    result = train("gpt", "--data", folder, "--strict", "--smoke", "--out", tmp_path / "run")
    assert result.exit_code == 2 and "latin.txt" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no text in .*: \.txt, \.md, \.py files are read$"),
        ({"a_csv": "1,2"}, "no text in "),
        ({"a_txt": " \n"}, "no text in "),
        ({"a_txt": "one\ntwo\nthree\n"}, "too little text in .*: 3 lines or files"),
    ],
)
def test_folders_without_enough_text(tmp_path, files, message):
    with pytest.raises(TrainError, match=message):
        corpus.load(str(write(tmp_path / "data", **files)), 1)


def test_no_such_folder(tmp_path):
    with pytest.raises(TrainError, match="which does not exist: 'stdlib' or a folder"):
        corpus.load(str(tmp_path / "nowhere"), 1)
    write(tmp_path, a_txt="text")
    with pytest.raises(TrainError, match="which is not a folder"):
        corpus.load(str(tmp_path / "a.txt"), 1)


# Tokenizer


def test_any_text_comes_back_whole():
    coder = tokenizer.train(["def f(x):\n    return x\n"] * 10, 280)
    text = "    \u00fcber [MASK] \U0001f600\t\r\n[PAD]"
    (ids,) = tokenizer.encode(coder, [text])
    assert coder.decode(ids.tolist()) == text
    # What looks like a special token in a text is none.
    assert not torch.isin(ids, torch.tensor(SPECIAL_IDS)).any()


def test_the_same_text_gives_the_same_tokenizer(folder):
    texts = corpus.load(str(folder), 1).train
    first, again = (tokenizer.train(texts, 300) for _ in range(2))
    assert tokenizer.fingerprint(first) == tokenizer.fingerprint(again)
    assert tokenizer.fingerprint(first) != tokenizer.fingerprint(tokenizer.train(texts, 290))


def test_a_saved_tokenizer_is_the_same(tmp_path, folder):
    first = tokens.load(str(folder), 1, 300, resume_from=None)
    for name, content in first.files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    again = tokens.load(str(folder), 1, 300, resume_from=tmp_path)
    assert again.identity == first.identity
    assert all(map(torch.equal, again.train, first.train))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is torn, or is no tokenizer"),
        (
            '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
            "tokens differ",
        ),
    ],
)
def test_a_file_that_is_no_tokenizer(tmp_path, content, message):
    (tmp_path / tokenizer.FILE).write_text(content)
    with pytest.raises(TrainError, match=message):
        tokenizer.load(tmp_path / tokenizer.FILE)


# Examples


def documents(*lengths: int) -> list[torch.Tensor]:
    """Tokens that tell where they are from: document d holds 1000 d + 100, + 101, ..."""
    return [1000 * d + 100 + torch.arange(length) for d, length in enumerate(lengths)]


def pairs(*lengths: int, seed: int = 0) -> Pairs:
    return Pairs(documents(*lengths), length=23, vocab_size=100_000, seed=seed)


def unmasked(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.where(batch["labels"] >= 0, batch["labels"], batch["ids"])


def test_a_pair_is_two_segments_of_one_document_or_of_two():
    data = pairs(*[205] * 10)  # ten pairs each, and five tokens too few for another
    assert len(data) == 100
    batch = data.batch(torch.arange(100), 0)
    ids = unmasked(batch)
    assert (ids[:, 0] == CLS).all() and (ids[:, 11] == SEP).all() and (ids[:, 22] == SEP).all()
    a, b = ids[:, 1:11], ids[:, 12:22]
    for segment in (a, b):
        assert (segment.diff(dim=1) == 1).all()
    random = batch["random"].bool()
    assert (b[~random, 0] == a[~random, -1] + 1).all()
    assert (b[random, 0] // 1000 != a[random, 0] // 1000).all()
    assert batch["segments"].tolist() == [[0] * 12 + [1] * 11] * 100
    assert batch["real"].all()


def test_half_of_the_second_segments_are_random_and_from_anywhere():
    random, source = pairs(*[205] * 10).draw(0)
    # Five standard deviations of 5 are 25.
    assert 25 < random.sum() < 75
    long = Pairs(documents(*[20_000] * 3), length=23, vocab_size=100_000, seed=0)
    random, source = long.draw(0)
    mine = torch.arange(3000)[random] // 1000
    counts = torch.stack([(mine * 3 + source[random] // 1000) == i for i in range(9)]).sum(1)
    assert counts.view(3, 3).diagonal().sum() == 0
    # Each of the six other cells has 250 of 1500, standard deviation 14.
    assert ((counts - 250).abs() < 75).sum() == 6


def test_a_short_end_is_padded_and_an_end_without_a_second_segment_left_out():
    assert len(pairs(20 + 13, 20 + 10)) == 2 + 1
    batch = pairs(*[20 + 13] * 10).batch(torch.arange(20), 0)
    ids = unmasked(batch)
    short = ids[~batch["real"].all(dim=1)]
    assert len(short) > 0
    assert (short[:, 12:15].diff(dim=1) == 1).all()
    assert (short[:, 15] == SEP).all() and (short[:, 16:] == PAD).all()
    assert torch.equal(batch["real"], ids != PAD)
    assert (batch["labels"] != PAD).all()


def test_an_example_is_the_same_in_every_batch_and_new_in_every_epoch():
    data = pairs(*[205] * 10)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    whole, part = data.batch(torch.arange(100), 3), data.batch(order[:7], 3)
    for name, value in part.items():
        assert torch.equal(value, whole[name][order[:7]]), name
    for source, epoch in ((data, 4), (pairs(*[205] * 10, seed=1), 3)):
        anew = source.batch(torch.arange(100), epoch)
        assert not torch.equal(whole["random"], anew["random"])
        # Two draws of 15 % agree where both or none mask: 0.745 of 2000, standard deviation 20.
        agree = (whole["labels"] >= 0) == (anew["labels"] >= 0)
        assert agree[:, torch.arange(23) % 11 > 0].sum() < 0.8 * 2000


def test_masks_are_berts():
    batch = pairs(*[20_000] * 3).batch(torch.arange(3000), 0)
    masked = batch["labels"] >= 0
    assert not masked[:, [0, 11, 22]].any()
    # 60,000 tokens: a standard deviation is 0.15 points of the first, 0.42 of the second.
    assert masked[:, 1:].sum() / 60_000 == pytest.approx(0.15, abs=0.0075)
    assert (batch["ids"][masked] == MASK).float().mean() == pytest.approx(0.8, abs=0.021)


def test_too_few_long_documents_for_pairs():
    with pytest.raises(TrainError, match="of 3 documents 1 have the 11 tokens of a pair"):
        pairs(100, 10, 10)


def test_windows_are_all_text_in_its_order():
    windows = Windows(documents(10, 5, 7), length=8)
    ids = windows.batch(torch.arange(len(windows)), 0)["ids"]
    assert ids.shape == (3, 8)
    stream = [*range(100, 110), SEP, *range(1100, 1105), SEP, *range(2100, 2107), SEP]
    assert ids.flatten().tolist() == stream[:24]


def test_folded_seeds_differ_in_every_part():
    seeds = {fold(seed, use, epoch) for seed in range(9) for use in "ab" for epoch in range(9)}
    assert len(seeds) == 9 * 2 * 9
    assert all(0 <= seed < 2**63 for seed in seeds)
