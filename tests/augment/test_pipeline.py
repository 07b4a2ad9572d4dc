"""`nn.Augment`, the collate helper and the grid."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sslkernels import AugmentCollate, AugmentPolicy, Indexed, augment, show_grid
from sslkernels.nn import Augment

POLICY = AugmentPolicy((6, 5), crop_scale=(0.3, 1.0), horizontal_flip=0.5, contrast=0.5)
PAIR = (POLICY, replace(POLICY, size=(3, 4)))
IMAGES = torch.randint(
    256, (10, 3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


class TestModule:
    def test_images_are_numbered_as_they_come(self):
        module = Augment(POLICY, seed=3)
        views = torch.cat([module(IMAGES[:4]), module(IMAGES[4:])], 1)
        assert torch.equal(views, augment(IMAGES, POLICY, seed=3))
        again = Augment(POLICY, seed=3)
        again.load_state_dict(module.state_dict())
        assert torch.equal(again(IMAGES), module(IMAGES))
        assert not torch.equal(module(IMAGES), module(IMAGES))

    def test_sample_ids_and_epochs(self):
        module = Augment(PAIR, seed=3).eval()
        module.set_epoch(5)
        ids = torch.arange(10) + 100
        views, draws = module(IMAGES, ids, return_draws=True)
        expected = augment(IMAGES, PAIR, seed=3, epoch=5, sample_ids=ids)
        assert all(map(torch.equal, views, expected)) and draws.shape == (2, 10, 32)
        assert module.seen == 0

    def test_out(self):
        out = torch.empty(3, 10, 3, 6, 5)
        assert Augment(POLICY, views=3)(IMAGES, out=out) is out

    def test_in_a_model_that_is_compiled(self):
        torch._dynamo.reset()
        model = torch.nn.Sequential(Augment(POLICY, seed=1), torch.nn.Flatten())
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        first, second = compiled(IMAGES), compiled(IMAGES)
        other = torch.nn.Sequential(Augment(POLICY, seed=1), torch.nn.Flatten())
        assert torch.equal(first, other(IMAGES)) and torch.equal(second, other(IMAGES))

    def test_repr_and_errors(self):
        assert "size=(6, 5)" in repr(Augment(POLICY))
        with pytest.raises(TypeError, match=r"^Augment: policy must be an AugmentPolicy"):
            Augment("simclr")
        with pytest.raises(ValueError, match=r"epoch must lie in \[0, 16777215\], got -1"):
            Augment(POLICY).set_epoch(-1)


class _Photos(Dataset):
    """Images of one size, or of several, with labels."""

    def __init__(self, ragged: bool) -> None:
        self.ragged = ragged

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = IMAGES[index]
        return (image[:, : 4 + index % 3] if self.ragged else image), index % 7


class TestCollate:
    @pytest.mark.parametrize("policy", [POLICY, PAIR], ids=["one size", "two sizes"])
    @pytest.mark.parametrize("ragged", [False, True])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_in_a_loader(self, workers, ragged, policy):
        collate = AugmentCollate(policy, seed=2)
        loader = DataLoader(
            Indexed(_Photos(ragged)),
            batch_size=4,
            num_workers=workers,
            collate_fn=collate,
            persistent_workers=workers > 0,
        )
        for epoch in (0, 3):
            collate.set_epoch(epoch)
            batches = list(loader)
            labels = torch.cat([batch[1] for batch in batches])
            assert labels.tolist() == [i % 7 for i in range(10)]
            for view in range(2):
                found = torch.cat([batch[0][view] for batch in batches])
                for i in range(10):
                    image, ids = _Photos(ragged)[i][0][None], torch.tensor([i])
                    alone = augment(image, policy, seed=2, epoch=epoch, sample_ids=ids)
                    torch.testing.assert_close(found[i], alone[view][0], rtol=0, atol=1e-6)

    def test_images_alone(self):
        collate = AugmentCollate(POLICY, views=3, seed=2)
        views = collate([Indexed(IMAGES)[i] for i in (4, 2)])
        ids = torch.tensor([4, 2])
        assert torch.equal(views, augment(IMAGES[ids], POLICY, views=3, seed=2, sample_ids=ids))

    @pytest.mark.parametrize("items", [[IMAGES[0]], [(IMAGES[0], 1)], [(0, "image")]])
    def test_bad_items(self, items):
        with pytest.raises(TypeError, match=r"^AugmentCollate: (items|images) must be"):
            AugmentCollate(POLICY, seed=2)(items)


class TestGrid:
    def test_picture(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        policy = AugmentPolicy((8, 9), horizontal_flip=1.0, mean=(0.5,), std=(0.25,))
        views = augment(IMAGES, policy, seed=0)
        path = show_grid(IMAGES, views, policy, tmp_path / "grid.png", rows=3, zoom=2)
        picture = torch.tensor(np.array(image.open(io.BytesIO(path.read_bytes()))))
        assert picture.shape == (3 * 18 + 2, 3 * 20 + 2, 3)
        picture = picture.permute(2, 0, 1)
        for row in range(3):
            top = 2 + 18 * row
            for column, expected in enumerate((IMAGES[row], *[IMAGES[row].flip(2)] * 2)):
                cell = picture[:, top : top + 16 : 2, 2 + 20 * column : 20 + 20 * column : 2]
                assert torch.equal(cell, expected)
        assert (picture[:, :2] == 255).all() and (picture[:, :, :2] == 255).all()

    def test_views_of_several_sizes_and_one_channel(self, tmp_path):
        gray = IMAGES[:, :1]
        views = augment(gray, PAIR, seed=0)
        path = show_grid(gray, views, PAIR, tmp_path / "grid.png")
        header = path.read_bytes()[16:24]
        width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
        assert (width, height) == (2 + (9 + 2) + (5 + 2) + (4 + 2), 2 + 8 * (8 + 2))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rows": 0}, "rows must be at least 1, got 0"),
            ({"zoom": 0}, "zoom must be at least 1, got 0"),
            ({"images": IMAGES[:, :2]}, r"images must be .*got \[10, 2, 8, 9\]"),
            ({"images": IMAGES[:5]}, r"views must be 2 of \[5, 3\] each"),
            ({"policy": (POLICY,) * 3}, r"views must be 3 of \[10, 3\] each"),
        ],
    )
    def test_bad_input(self, change, message, tmp_path):
        views = augment(IMAGES, POLICY, seed=0)
        good = {"images": IMAGES, "views": views, "policy": POLICY, "path": tmp_path / "g.png"}
        with pytest.raises(ValueError, match=f"^show_grid: {message}"):
            show_grid(**good | change)
