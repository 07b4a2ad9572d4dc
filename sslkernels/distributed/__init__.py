"""Losses over the joint batch of several processes: what a head needs to take `group=`."""

from sslkernels.distributed.agreement import Shares, agree, member
from sslkernels.distributed.gather import gather_rows, sum_over_ranks

__all__ = ["Shares", "agree", "gather_rows", "member", "sum_over_ranks"]
