"""What the first call of a process makes ready."""

from __future__ import annotations

import subprocess
import sys

EXPORT_WITHOUT_GRADIENT = """
import torch
from sslkernels.similarity import weighted_logsumexp

class Loss(torch.nn.Module):
    def forward(self, q, weight):
        return weighted_logsumexp(q, None, weight)

torch.export.export(Loss(), (torch.randn(5, 3), torch.ones(5)))
"""


def test_an_operator_may_fall_back_on_one_that_never_ran():
    """Without a gradient weighted_logsumexp is made of logsumexp's operator, fake included."""
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_WITHOUT_GRADIENT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
