"""What `augment` promises about its result: shapes, layouts, `out`, NaN, compile and vmap."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sslkernels import AugmentPolicy, augment, backends, policies
from sslkernels.checks import accumulate_dtype

SMALL = AugmentPolicy((5, 7), crop_scale=(0.3, 1.0), horizontal_flip=0.5, contrast=0.5)
LARGE = replace(SMALL, size=(9, 6))
NORMAL = replace(SMALL, mean=(0.5,), std=(0.25,))
IMAGES = torch.rand(4, 3, 12, 10, generator=torch.Generator().manual_seed(0))
BYTES = (255 * IMAGES).round().to(torch.uint8)


class TestResult:
    op = "augment"

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float32, torch.bfloat16])
    def test_dtype_and_shape(self, implementation, dtype):
        images = BYTES if dtype is torch.uint8 else IMAGES.to(dtype)
        views = augment(images, SMALL, views=3, seed=0)
        assert views.shape == (3, 4, 3, 5, 7) and views.dtype is accumulate_dtype(dtype)
        assert views.is_contiguous()

    def test_bytes_are_divided_by_255(self, implementation):
        expected = augment(BYTES.float() / 255, SMALL, seed=0)
        torch.testing.assert_close(augment(BYTES, SMALL, seed=0), expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_dtype_of_the_policy(self, implementation, dtype):
        expected = augment(BYTES, NORMAL, seed=0)
        views = augment(BYTES, replace(NORMAL, dtype=dtype), seed=0)
        assert views.dtype is dtype
        torch.testing.assert_close(
            views, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6
        )

    @pytest.mark.parametrize("images", [BYTES, IMAGES], ids=["uint8", "float32"])
    def test_channels_last(self, implementation, images):
        policy = replace(NORMAL, channels_last=True)
        views = augment(images, policy, seed=0)
        assert all(v.is_contiguous(memory_format=torch.channels_last) for v in views)
        torch.testing.assert_close(views, augment(images, NORMAL, seed=0), rtol=0, atol=1e-6)

    def test_images_stay_as_they_were(self, implementation):
        copy = IMAGES.clone()
        augment(IMAGES, policies.simclr_cifar(8), seed=0)
        assert torch.equal(copy, IMAGES)

    def test_nothing_to_do(self, implementation):
        views = augment(IMAGES, AugmentPolicy((12, 10)), seed=0)
        torch.testing.assert_close(views, IMAGES.expand(2, 4, 3, 12, 10), rtol=0, atol=1e-7)

    def test_nan_stays_where_it_is(self, implementation):
        """Its neighbours may have it too: they sum it with weight 0."""
        images = IMAGES.clone()
        images[2, 1, 4, 4] = float("nan")
        views = augment(images, AugmentPolicy((12, 10)), seed=0)
        assert views[:, 2, 1, 4, 4].isnan().all()
        views[:, 2, 1, 3:6, 3:6] = 0
        assert views.isfinite().all()
        outside = torch.tensor([0.0, 0, 4, 4, *[0] * 28]).expand(1, 4, 32)
        cropped = augment(images, AugmentPolicy(6), views=1, draws=outside)
        assert cropped.isfinite().all()


class TestSizes:
    op = "augment"

    def test_a_tuple_where_sizes_differ(self, implementation):
        views = augment(IMAGES, (SMALL, LARGE, SMALL), seed=1)
        assert isinstance(views, tuple)
        assert [v.shape for v in views] == [(4, 3, 5, 7), (4, 3, 9, 6), (4, 3, 5, 7)]
        small, large = (augment(IMAGES, p, views=3, seed=1) for p in (SMALL, LARGE))
        for view, expected in zip(views, (small[0], large[1], small[2]), strict=True):
            assert torch.equal(view, expected)

    def test_one_tensor_where_all_else_differs(self, implementation):
        views = augment(IMAGES, (SMALL, NORMAL), seed=1)
        assert torch.equal(views[0], augment(IMAGES, SMALL, seed=1)[0])
        assert torch.equal(views[1], augment(IMAGES, NORMAL, seed=1)[1])

    def test_stages_of_one_policy_do_not_touch_the_view_of_another(self, implementation):
        plain, full = AugmentPolicy((9, 6)), replace(policies.byol((9, 6))[1], mean=None, std=None)
        views = augment(IMAGES, (plain, full), seed=1)
        expected = augment(IMAGES, plain, seed=1)[0]
        torch.testing.assert_close(views[0], expected, rtol=0, atol=1e-6)
        assert torch.equal(views[1], augment(IMAGES, full, seed=1)[1])
        views = augment(IMAGES, (full, plain), seed=1)
        assert torch.equal(views[0], augment(IMAGES, full, seed=1)[0])
        tiny = AugmentPolicy(1)  # too small for the kernel of the other
        views = augment(IMAGES, (tiny, replace(full, blur_probability=1.0)), seed=1)
        assert torch.equal(views[0], augment(IMAGES, tiny, seed=1)[0])

    def test_gradient_through_all(self, implementation):
        images = IMAGES.clone().requires_grad_()
        views = augment(images, (SMALL, LARGE, SMALL), seed=1)
        sum(v.sum() for v in views).backward()
        total = torch.zeros_like(IMAGES)
        for policy, places in ((SMALL, (0, 2)), (LARGE, (1,))):
            leaf = IMAGES.clone().requires_grad_()
            augment(leaf, policy, views=3, seed=1)[list(places)].sum().backward()
            total += leaf.grad
        torch.testing.assert_close(images.grad, total)


class TestOut:
    op = "augment"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
    def test_written_in_place(self, implementation, last, dtype):
        policy = replace(NORMAL, dtype=dtype)
        expected = augment(BYTES, policy, seed=3)
        out = torch.full_like(expected, float("nan"))
        if last:
            out = out.movedim(2, -1).contiguous().movedim(-1, 2)
        address = out.data_ptr()
        result = augment(BYTES, policy, seed=3, out=out)
        assert result is out and out.data_ptr() == address
        assert torch.equal(out, expected)

    def test_several_sizes(self, implementation):
        expected = augment(IMAGES, (SMALL, LARGE), seed=3)
        out = [torch.empty_like(view) for view in expected]
        result, draws = augment(IMAGES, (SMALL, LARGE), seed=3, out=out, return_draws=True)
        assert result is out and draws.shape == (2, 4, 32)
        assert all(map(torch.equal, out, expected))

    def test_settings_that_differ(self, implementation):
        expected = augment(IMAGES, (SMALL, NORMAL), seed=3)
        out = torch.empty_like(expected)
        assert torch.equal(augment(IMAGES, (SMALL, NORMAL), seed=3, out=out), expected)

    def test_without_gradients_images_may_require_one(self, implementation):
        images = IMAGES.clone().requires_grad_()
        with torch.no_grad():
            out = augment(images, SMALL, seed=3, out=torch.empty(2, 4, 3, 5, 7))
        assert not out.requires_grad


class TestCompile:
    op = "augment"

    @pytest.mark.parametrize("images", [BYTES, IMAGES], ids=["uint8", "float32"])
    def test_fullgraph_and_changing_seeds(self, fused, images):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()

        def step(images, seed, epoch, sample_ids):
            views, draws = augment(
                images, SMALL, seed=seed, epoch=epoch, sample_ids=sample_ids, return_draws=True
            )
            return 2 * views, draws

        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        for seed in (1, 2, 2**63 - 1):
            arguments = (images, seed, 3 + seed % 4, torch.arange(4) + seed % 5)
            for found, expected in zip(compiled(*arguments), step(*arguments), strict=True):
                assert torch.equal(found, expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3

    def test_vmap(self, fused):
        stacked = torch.stack([IMAGES, IMAGES.flip(1)])
        views = torch.vmap(lambda images: augment(images, SMALL, seed=4))(stacked)
        for index in range(2):
            assert torch.equal(views[index], augment(stacked[index], SMALL, seed=4))


def test_batches_are_cut_in_chunks(monkeypatch):
    from sslkernels.augment import chunked

    images = IMAGES.clone().requires_grad_()
    with backends.backend("chunked"):
        whole = augment(images, NORMAL, seed=5)
        (gradient,) = torch.autograd.grad(whole.square().sum(), images)
        monkeypatch.setattr(chunked, "BUDGET", 1)
        cut = augment(images, NORMAL, seed=5)
        (same,) = torch.autograd.grad(cut.square().sum(), images)
    assert torch.equal(whole, cut) and torch.equal(gradient, same)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_views_of_the_cpu():
    policy = policies.simclr(48)
    expected = augment(BYTES, policy, seed=6)
    views = augment(BYTES.cuda(), policy, seed=6)
    torch.testing.assert_close(views.cpu(), expected, rtol=0, atol=2e-4)
