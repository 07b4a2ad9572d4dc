"""What is timed is the same loss everywhere, and the float64 truth is right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import accuracy, contrastive, real
from benchmarks.case import Case
from benchmarks.contrastive import Contrastive
from benchmarks.errors import InputError
from benchmarks.registry import BOTH, EAGER, OURS, LossBenchmark, loss_and_gradients, operators

SHAPES = {
    "dcl": (16, 8),
    "info_nce": (9, 40, 8),
    "retrieval": (12, 8),
    "clip_loss": (12, 8),
    "siglip_loss": (12, 8),
    "supcon": (24, 3, 8),
}
OPS = {
    name: op
    for name, op in operators().items()
    if isinstance(op, Contrastive) and name != "nt_xent"
}
PLAIN = [(op, one) for op in OPS.values() for one in op.implementations if not one.compiled]
each_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
each_implementation = pytest.mark.parametrize(
    ("op", "one"), PLAIN, ids=[f"{op.name}-{one.name}" for op, one in PLAIN]
)


def _case(op: LossBenchmark, dtype: str = "float32") -> Case:
    return op.cases([SHAPES[op.name]], [(dtype, "highest")])[0]


def test_every_head_has_a_benchmark() -> None:
    assert set(OPS) == set(SHAPES)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@each_implementation
def test_every_implementation_computes_the_same_loss(op: LossBenchmark, one, dtype: str) -> None:
    if one.absent:
        pytest.skip(one.absent)
    case = _case(op, dtype)
    for kind in op.input_kinds:
        inputs = op.inputs(case, kind)
        error = accuracy.error_of(one.name, one.build(case), inputs, op.exact(case, inputs), kind)
        assert accuracy.is_different(error, case) is None
        assert error.gradient < {"bfloat16": 0.1, "float32": 1e-5, "float64": 1e-12}[dtype]
        assert (error.scalars is None) == (op.name not in ("clip_loss", "siglip_loss"))


@each_op
def test_a_second_call_gives_the_same_loss(op: LossBenchmark) -> None:
    case = _case(op, "float64")
    inputs = op.inputs(case, op.input_kinds[0])
    for one in op.implementations:
        if one.compiled or one.absent:
            continue
        function = one.build(case)
        assert torch.equal(function(*inputs), function(*inputs))


@each_op
def test_exact_in_blocks_agrees_with_autograd(
    op: LossBenchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrastive, "BLOCK_ROWS", 5)
    monkeypatch.setattr("benchmarks.nt_xent.BLOCK_ROWS", 5)
    case = _case(op, "float64")
    inputs = op.inputs(case, op.input_kinds[0])
    loss, gradients = op.exact(case, inputs)
    eager = op.implementation(EAGER).build(case)
    wanted, wanted_gradients = loss_and_gradients(eager, inputs)
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(gradients, wanted_gradients)


@each_op
def test_another_temperature_is_noticed(op: LossBenchmark) -> None:
    case = _case(op)
    inputs = op.inputs(case, op.input_kinds[0])
    truth = op.exact(case, inputs)
    other = replace(case, parameters={"temperature": 1.1 * case.parameters["temperature"]})
    eager = op.implementation(EAGER).build(other)
    # The scale of two towers is an input, and not a parameter of the function.
    changed = [x * 1.1 if x.dim() == 0 else x for x in inputs]
    leaves = tuple(x.detach().requires_grad_(x.is_floating_point()) for x in changed)
    loss = eager(*leaves).detach().double()
    assert ((loss - truth[0]) / truth[0]).abs() > accuracy.SAME_LOSS[case.kind]


@each_implementation
def test_as_many_products_as_said(op: LossBenchmark, one) -> None:
    """At a size where what is small beside the products, such as positives, is small."""
    if one.name == OURS:
        pytest.skip("its products are no operators of torch")
    if one.absent:
        pytest.skip(one.absent)
    shape = (*(8 * size for size in SHAPES[op.name][:-1]), 16)
    (case,) = op.cases([shape], [("float32", "highest")])
    inputs = op.inputs(case, op.input_kinds[0])
    with FlopCounterMode(display=False) as counter:
        one.build(case)(*inputs).backward()
    unit = op.unit(case)
    assert unit is not None
    assert counter.get_total_flops() / unit == pytest.approx(one.units, rel=0.05)


@each_op
def test_inputs_are_the_same_every_time(op: LossBenchmark) -> None:
    case = _case(op, "bfloat16")
    first, second = (op.inputs(case, op.input_kinds[0]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(one.is_leaf for one in first)
    rows = [one for one in first if one.dim() == 2]
    assert {one.dtype for one in rows} == {torch.bfloat16}
    numbers = [one for one in first if one.dim() == 0]
    assert all(one.dtype == torch.float32 and one.requires_grad for one in numbers)


def test_a_queue_takes_no_gradient() -> None:
    op = OPS["info_nce"]
    query, key, queue = op.inputs(_case(op), "correlated")
    assert query.requires_grad and not key.requires_grad and not queue.requires_grad
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(40))


@each_op
def test_grids_have_every_kind_and_a_small_quick_case(op: LossBenchmark) -> None:
    timed = [case for case in op.grid(quick=False) if not case.memory_only]
    kinds = {case.kind for case in timed if not case.data}
    assert kinds == {"bfloat16", "float32 highest", "float32 high"}
    quick = op.grid(quick=True)
    assert 1 <= len(quick) <= 2
    assert all(op.work(case, BOTH) < 1e9 for case in quick)


def test_published_shapes_are_in_the_grids() -> None:
    published = {
        "info_nce": (512, 65536, 128),
        "clip_loss": (4096, 512),
        "siglip_loss": (4096, 512),
        "supcon": (4096, 10, 128),
    }
    for name, shape in published.items():
        assert shape in {case.shape for case in OPS[name].grid(quick=False)}
    for name in ("clip_loss", "supcon"):
        weighed = {case.shape[0] for case in OPS[name].grid(quick=False) if case.memory_only}
        assert weighed == {1024, 2048, 8192, 16384}


class TestRealRows:
    @pytest.mark.parametrize("name", SHAPES)
    def test_ours_and_eager_compute_the_same_loss_on_digits(self, name: str) -> None:
        pytest.importorskip("sklearn")
        op = OPS[name]
        shape = (60, 10, 8) if name == "supcon" else SHAPES[name]
        (case,) = op.cases([shape], [("float32", "highest")], data="digits")
        assert op.kinds(case) == ("digits",)
        inputs = op.inputs(case, "digits")
        truth = op.exact(case, inputs)
        for which in (OURS, EAGER):
            function = op.implementation(which).build(case)
            error = accuracy.error_of(which, function, inputs, truth, "digits")
            assert accuracy.is_different(error, case) is None
            assert error.gradient < 1e-5

    def test_views_of_an_image_are_close_and_labels_are_its_class(self) -> None:
        pytest.importorskip("sklearn")
        found = real.pairs("digits", 200, 32)
        cosine = torch.nn.functional.cosine_similarity
        own = cosine(found.first, found.second).mean()
        others = cosine(found.first, found.second.roll(1, 0)).mean()
        assert own > others + 0.4
        assert found.labels.unique().tolist() == list(range(10))
        again = real.pairs.__wrapped__("digits", 200, 32)
        assert torch.equal(found.first, again.first)

    def test_more_samples_than_images_are_other_views(self) -> None:
        pytest.importorskip("sklearn")
        found = real.pairs("digits", 1797 + 5, 16)
        assert torch.equal(found.labels[:5], found.labels[1797:])
        assert not torch.equal(found.first[:5], found.first[1797:])

    def test_sentences_name_what_they_describe(self) -> None:
        pairs = real.sentences()
        assert len(pairs) > 4096
        (dumps,) = [text for name, text, _ in pairs if name == "init dumps" and "JSON" in text]
        assert dumps.startswith("Serialize ``obj`` to a JSON formatted ``str``")
        texts = [text for _, text, _ in pairs]
        assert len(set(texts)) == len(texts)

    @pytest.mark.parametrize(
        ("op", "shape", "data", "message"),
        [
            ("supcon", (60, 10, 8), "sentences", "wanted one of digits, fashion-mnist"),
            ("supcon", (60, 5, 8), "digits", "digits has 10 classes, got 5"),
            ("retrieval", (60, 8), "sentences", "has rows of 384 features, got 8"),
            ("linear_cross_entropy", (60, 8, 9), "digits", "wanted one of none"),
        ],
    )
    def test_rows_that_there_are_none_of(
        self, op: str, shape: tuple[int, ...], data: str, message: str
    ) -> None:
        pytest.importorskip("sklearn")
        with pytest.raises(InputError, match=message):
            operators()[op].cases([shape], [("float32", "highest")], data=data)
