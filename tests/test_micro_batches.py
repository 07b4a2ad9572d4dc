"""`accumulate`: the gradients of the large batch, in micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sslkernels
from sslkernels.random_state import RandomState

ROWS, FEATURES = 22, 6


class Encoder(nn.Module):
    """With dropout, so that the two passes agree only if they draw the same."""

    def __init__(self, dropout: float = 0.4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 5)
        )
        self.log_temperature = nn.Parameter(torch.tensor(-1.0))

    def encode(self, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.layers(views[0]), self.layers(views[1])

    def loss(self, z1: Tensor, z2: Tensor) -> Tensor:
        return sslkernels.nt_xent(z1, z2, self.log_temperature.exp())

    def gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters() if p.grad is not None]


def micro_batches(size: int) -> list[tuple[Tensor, Tensor]]:
    x1, x2 = torch.randn(2, ROWS, FEATURES, generator=torch.Generator().manual_seed(1))
    return list(zip(x1.split(size), x2.split(size), strict=True))


def in_one_graph(model: Encoder, size: int) -> Tensor:
    """The same draws, but every micro-batch's graph is kept."""
    encoded = [model.encode(views) for views in micro_batches(size)]
    value = model.loss(*(torch.cat(parts) for parts in zip(*encoded, strict=True)))
    value.backward()
    return value.detach()


def assert_same(actual: list[Tensor], expected: list[Tensor], limit: float = 1e-6) -> None:
    for gradient, wanted in zip(actual, expected, strict=True):
        assert (gradient - wanted).abs().max() <= limit * wanted.abs().max()


@pytest.mark.parametrize("size", [1, 8, ROWS])
def test_gradients_of_the_large_batch(size):
    ours, theirs = Encoder(), Encoder()
    torch.manual_seed(7)
    value = sslkernels.accumulate(ours.encode, micro_batches(size), ours.loss)
    torch.manual_seed(7)
    expected = in_one_graph(theirs, size)
    assert not value.requires_grad
    assert torch.allclose(value, expected, rtol=1e-6)
    assert_same(ours.gradients(), theirs.gradients())


def test_without_dropout_the_split_does_not_matter():
    expected = Encoder(dropout=0.0)
    in_one_graph(expected, ROWS)
    model = Encoder(dropout=0.0)
    sslkernels.accumulate(model.encode, micro_batches(5), model.loss)
    assert_same(model.gradients(), expected.gradients())


def test_gradients_are_added():
    model, twice = Encoder(0.0), Encoder(0.0)
    sslkernels.accumulate(model.encode, micro_batches(8), model.loss)
    for _ in range(2):
        sslkernels.accumulate(twice.encode, iter(micro_batches(8)), twice.loss)
    assert_same(twice.gradients(), [2 * gradient for gradient in model.gradients()])


def test_random_numbers_go_on_as_after_one_pass():
    model, drawn = Encoder(), []

    def loss(z1, z2):
        drawn.append(torch.rand(4))
        return model.loss(z1, z2)

    torch.manual_seed(3)
    sslkernels.accumulate(model.encode, micro_batches(8), loss)
    drawn.append(torch.rand(4))
    torch.manual_seed(3)
    in_one_graph(model, 8)
    assert torch.equal(torch.cat(drawn), torch.rand(8))


def test_random_numbers_are_restored_after_an_error():
    model, calls = Encoder(), []

    def encode(views):
        calls.append(views)
        z1, z2 = model.encode(views)
        return (z1, z2) if len(calls) < 5 else (z1[:1], z2[:1])

    torch.manual_seed(3)
    with pytest.raises(ValueError, match=r"the same rows both times, got \[\[1, 5\], .* after"):
        sslkernels.accumulate(encode, micro_batches(8), model.loss)
    after = torch.rand(8)
    torch.manual_seed(3)
    in_one_graph(model, 8)
    assert torch.equal(after, torch.rand(8))


def test_under_autocast():
    """The first pass casts the weights without a graph; the second must not use those casts."""
    ours, theirs = Encoder(), Encoder()
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(7)
        value = sslkernels.accumulate(ours.encode, micro_batches(8), ours.loss)
        torch.manual_seed(7)
        expected = in_one_graph(theirs, 8)
    assert torch.equal(value, expected)
    assert len(ours.gradients()) == len(list(ours.parameters()))
    # Weights get one rounded gradient for each micro-batch instead of one for all.
    assert_same(ours.gradients(), theirs.gradients(), limit=2 * torch.finfo(torch.bfloat16).eps)


def test_scale_that_the_encoder_returns():
    ours, theirs = Encoder(), Encoder()
    torch.manual_seed(7)
    sslkernels.accumulate(
        lambda views: (*ours.encode(views), ours.log_temperature.exp()),
        micro_batches(8),
        sslkernels.nt_xent,
    )
    torch.manual_seed(7)
    in_one_graph(theirs, 8)
    assert_same(ours.gradients(), theirs.gradients())


def test_one_tensor_and_labels_beside_it():
    model = Encoder(0.0)
    inputs = [views[0] for views in micro_batches(8)]

    def loss(z):
        return z.pow(3).sum()

    sslkernels.accumulate(model.layers, inputs, loss)
    expected = Encoder(0.0)
    loss(expected.layers(torch.cat(inputs))).backward()
    assert_same(model.gradients(), expected.gradients())
    labelled = Encoder(0.0)

    def with_labels(x):
        return labelled.layers(x), torch.ones(len(x), dtype=torch.int64)

    sslkernels.accumulate(with_labels, inputs, lambda z, y: loss(z * y[:, None]))
    assert_same(labelled.gradients(), expected.gradients())


def test_frozen_encoder():
    model, frozen = Encoder(0.0), Encoder(0.0).requires_grad_(False)

    def encode(views):
        return model.layers(views[0]), frozen.layers(views[1])

    sslkernels.accumulate(encode, micro_batches(8), model.loss)
    expected = Encoder(0.0)
    x1, x2 = (torch.cat(parts) for parts in zip(*micro_batches(8), strict=True))
    expected.loss(expected.layers(x1), frozen.layers(x2)).backward()
    assert_same(model.gradients(), expected.gradients())
    assert not frozen.gradients()


def test_inside_no_grad():
    model, expected = Encoder(0.0), Encoder(0.0)
    with torch.no_grad():
        sslkernels.accumulate(model.encode, micro_batches(8), model.loss)
    in_one_graph(expected, ROWS)
    assert_same(model.gradients(), expected.gradients())


def test_keeps_one_graph_at_a_time():
    alive, most = 0, 0

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *grads):
            nonlocal alive
            alive -= 1
            return grads[0]

    model = Encoder()

    def encode(views):
        nonlocal alive, most
        z1, z2 = model.encode(views)
        if torch.is_grad_enabled():
            alive += 1
            most = max(most, alive)
        return Counted.apply(z1), z2

    sslkernels.accumulate(encode, micro_batches(4), model.loss)
    assert (most, alive) == (1, 0)


class TestErrors:
    def test_no_micro_batches(self):
        with pytest.raises(ValueError, match="micro_batches must hold at least one, got none"):
            sslkernels.accumulate(lambda x: x, [], sum)

    @pytest.mark.parametrize("returned", [None, 1.0, [torch.ones(2), None], {"z": torch.ones(2)}])
    def test_no_tensors(self, returned):
        with pytest.raises(TypeError, match="encode must return a tensor or a sequence of tensors"):
            sslkernels.accumulate(lambda x: returned, [1], sum)

    def test_number_of_tensors_changes(self):
        with pytest.raises(ValueError, match=r"same number of tensors .* got 1, 2"):
            sslkernels.accumulate(lambda n: [torch.ones(2, 3)] * n, [2, 1], sum)

    @pytest.mark.parametrize(
        ("loss", "got"), [(lambda z: z.sum(1), r"\[2\]"), (lambda z: 1.0, "float")]
    )
    def test_loss_is_no_scalar(self, loss, got):
        with pytest.raises(ValueError, match=rf"loss must return a 0-dim tensor, got {got}"):
            sslkernels.accumulate(lambda x: x, [torch.ones(2, 3)], loss)

    def test_loss_without_a_graph(self):
        with pytest.raises(ValueError, match="loss must return a tensor with a graph"):
            sslkernels.accumulate(lambda x: x, [torch.ones(2, 3)], lambda z: z.detach().sum())

    def test_no_ddp(self):
        with pytest.raises(TypeError, match=r"ddp must hold DistributedDataParallel .* got Linear"):
            sslkernels.accumulate(lambda x: x, [torch.ones(2, 3)], sum, ddp=nn.Linear(2, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_state_of_the_gpu():
    state = RandomState.now()
    first = torch.rand(4), torch.rand(4, device="cuda")
    state.restore()
    assert torch.equal(first[0], torch.rand(4))
    assert not state.accelerator or torch.equal(first[1], torch.rand(4, device="cuda"))
