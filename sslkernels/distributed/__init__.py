"""Losses over the joint batch of several processes: what a head needs to take `group=`."""

from sslkernels.distributed.agreement import Shares, agree, member, shares_of
from sslkernels.distributed.gather import gather_rows, sum_over_ranks

__all__ = ["Shares", "agree", "gather_rows", "member", "shares_of", "sum_over_ranks"]
