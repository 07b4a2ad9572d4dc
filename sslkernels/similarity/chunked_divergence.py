"""KL divergence of two rows of logits, both one tile at a time, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.similarity.chunked_terms import CountedLogits, LogitGradients


class _Pair:
    """The logits over the temperature of a student and its teacher, cut into the same tiles."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        bias: Tensor | None,
        teacher_q: Tensor,
        teacher_k: Tensor,
        teacher_bias: Tensor | None,
        counts: Tensor,
        temperature: float,
    ) -> None:
        scale = torch.full((), 1.0 / temperature, dtype=torch.float64, device=q.device)
        bias = None if bias is None else bias / temperature
        teacher_bias = None if teacher_bias is None else teacher_bias / temperature
        self.student = CountedLogits(q, k, counts, scale, bias)
        self.teacher = CountedLogits(teacher_q, teacher_k, counts, scale, teacher_bias)
        self.row_slices, self.column_slices = self.student.row_slices, self.student.column_slices

    def tiles(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """The teacher's in the student's dtype: one of them may be float64."""
        student = self.student.tile(rows, columns)
        return student, self.teacher.tile(rows, columns).to(student.dtype)


def row_divergence_forward(
    q: Tensor,
    k: Tensor,
    bias: Tensor | None,
    teacher_q: Tensor,
    teacher_k: Tensor,
    teacher_bias: Tensor | None,
    counts: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """KL(teacher || student), and lse of student and teacher: [M], 0 in a row that does not count.

    Logits are computed once where a tile holds whole rows, else twice.
    """
    pair = _Pair(q, k, bias, teacher_q, teacher_k, teacher_bias, counts, temperature)
    out = pair.student.q.new_zeros(3, q.shape[0])
    with torch.autocast(q.device.type, enabled=False):
        for rows in pair.row_slices:
            lse = out.new_full((2, rows.stop - rows.start), float("-inf"))
            tiles = None
            for columns in pair.column_slices:
                tiles = pair.tiles(rows, columns)
                lse = torch.logaddexp(lse, torch.stack([tile.logsumexp(1) for tile in tiles]))
            divergence = torch.zeros_like(lse[0])
            for columns in pair.column_slices:
                if tiles is None or len(pair.column_slices) > 1:
                    tiles = pair.tiles(rows, columns)
                student, teacher = tiles
                student.sub_(lse[0, :, None])
                teacher.sub_(lse[1, :, None])
                p = teacher.exp()
                # The limit of p log p, where it is inf - inf or 0 * inf.
                divergence += teacher.sub_(student).mul_(p).masked_fill_(p == 0.0, 0.0).sum(1)
            out[:, pair.student.counted[rows]] = torch.cat([divergence[None], lse])
    divergence, lse, teacher_lse = out
    return divergence.clone(), lse.clone(), teacher_lse.clone()


def row_divergence_backward(
    grad: Tensor,
    lse: Tensor,
    teacher_lse: Tensor,
    q: Tensor,
    k: Tensor,
    bias: Tensor | None,
    teacher_q: Tensor,
    teacher_k: Tensor,
    teacher_bias: Tensor | None,
    counts: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dbias of sum_i grad_i * divergence_i; the teacher has no gradient."""
    pair = _Pair(q, k, bias, teacher_q, teacher_k, teacher_bias, counts, temperature)
    gradients = LogitGradients(pair.student.q, pair.student.k, with_bias=bias is not None)
    with torch.autocast(q.device.type, enabled=False):
        for rows in pair.row_slices:
            at = pair.student.counted[rows]
            for columns in pair.column_slices:
                student, teacher = pair.tiles(rows, columns)
                p = student.sub_(lse[at, None]).exp_()
                p -= teacher.sub_(teacher_lse[at, None]).exp_()
                gradients.add(p.mul_(grad[at, None]), rows, columns)
    dq, dk, _, dbias = gradients.finish(q, pair.student.counted, pair.student.scale)
    return dq, dk, dbias / temperature
