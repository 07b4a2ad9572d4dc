from __future__ import annotations

import pytest
import torch

from sslkernels.losses.nt_xent import reference
from sslkernels.train.evaluate import evaluate
from sslkernels.train.images import digits
from sslkernels.train.methods import simclr
from sslkernels.train.methods.simclr import SimCLR
from sslkernels.train.optimizers import warmup_cosine
from sslkernels.train.views import Augment


def losses(rows):
    return torch.tensor([float(row["loss"]) for row in rows], dtype=torch.float64)


def without_rate(rows):
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in rows]


def test_a_short_run_improves_the_features(train, settings, tmp_path):
    torch.manual_seed(0)
    before = evaluate(SimCLR((1, 8, 8)).encoder, digits())
    method, rows = train(settings(epochs=10, batch_size=256), tmp_path, count=1437)
    after = evaluate(method.encoder, digits())
    assert losses(rows)[-5:].mean() < losses(rows)[:5].mean() - 1
    # With seeds 0, 1 and 2, 10 epochs gain 6 to 7 points of kNN and 3 to 5 of the linear probe.
    assert after.knn > before.knn + 0.03
    assert after.linear > before.linear + 0.015


def curve(train, settings, out, loss, precision):
    options = {"loss": loss, "temperature": 0.2}
    _, rows = train(settings(precision=precision, options=options), out / loss)
    return losses(rows)


def test_fused_and_eager_give_one_curve(train, settings, tmp_path):
    """33 steps in float64. In float32 the curves part after some ten steps whatever the loss:
    an activation within rounding of ReLU's kink gets another gradient, and that grows."""
    fused = curve(train, settings, tmp_path, "fused", "float64")
    eager = curve(train, settings, tmp_path, "eager", "float64")
    assert len(fused) == 33
    torch.testing.assert_close(fused, eager, rtol=1e-10, atol=0)


def test_fused_and_eager_start_as_one_curve_in_float32(train, settings, tmp_path):
    fused = curve(train, settings, tmp_path, "fused", "float32")
    eager = curve(train, settings, tmp_path, "eager", "float32")
    torch.testing.assert_close(fused[:3], eager[:3], rtol=1e-5, atol=0)
    # Later they differ less than one batch differs from the next (about 0.1).
    torch.testing.assert_close(fused, eager, rtol=0, atol=0.05)


def test_the_curve_tells_a_wrong_gradient(train, settings, tmp_path, monkeypatch):
    """The right value with the gradient of only one view, to show that the test above can fail."""
    monkeypatch.setitem(
        simclr.LOSSES, "fused", lambda z1, z2, temperature: reference(z1, z2.detach(), temperature)
    )
    fused = curve(train, settings, tmp_path, "fused", "float64")
    eager = curve(train, settings, tmp_path, "eager", "float64")
    assert fused[0] == eager[0]
    assert (fused - eager).abs()[1:].min() > 1e-8


@pytest.mark.parametrize("last_step", [1, 11, 25])
def test_a_stopped_and_resumed_run_is_the_unbroken_one(
    train, settings, tmp_path, stopped_at, last_step
):
    """11 steps an epoch: stopped in the first one, at its end before the save, and later."""
    unbroken, rows = train(settings(), tmp_path / "unbroken")
    with stopped_at(last_step), pytest.raises(KeyboardInterrupt):
        train(settings(), tmp_path / "stopped")
    torch.manual_seed(99)
    resumed, resumed_rows = train(settings(), tmp_path / "stopped", resume=True)

    assert without_rate(resumed_rows) == without_rate(rows)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_resumed_run_with_torchvision_draws_the_same_too(train, settings, tmp_path, stopped_at):
    short = {"count": 3 * 64, "augment": Augment.torchvision}
    _, rows = train(settings(), tmp_path / "unbroken", **short)
    with stopped_at(5), pytest.raises(KeyboardInterrupt):
        train(settings(), tmp_path / "stopped", **short)
    torch.manual_seed(99)
    _, resumed_rows = train(settings(), tmp_path / "stopped", resume=True, **short)
    assert without_rate(resumed_rows) == without_rate(rows)


def test_a_torn_last_row_of_the_log_is_no_obstacle(train, settings, tmp_path):
    _, rows = train(settings(), tmp_path)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "3")  # of step 34, or so it would have been
    _, again = train(settings(), tmp_path, resume=True)
    assert again == rows


def test_bf16_trains(train, settings, tmp_path):
    method, rows = train(settings(precision="bf16"), tmp_path)
    assert losses(rows)[-1] < losses(rows)[0] - 0.5
    assert next(method.parameters()).dtype == torch.float32


def test_the_learning_rate_warms_up_and_falls_to_zero():
    factors = [warmup_cosine(step, 100) for step in range(100)]
    assert factors[0] == 0.1 and factors[9] == 1 == max(factors)
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 <= factors[-1] < 1e-3
    assert warmup_cosine(0, 1) == 1
