"""What an instruction works on: the threads that run together, their memories, the counters."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.emulation.ptx.counts import Counts
from tests.emulation.ptx.formats import Array
from tests.emulation.ptx.global_memory import GlobalMemory
from tests.emulation.ptx.lanes import Lanes
from tests.emulation.ptx.parameters import Parameters
from tests.emulation.ptx.shared_memory import SharedMemory


@dataclasses.dataclass
class Copy:
    """Copies that one cp.async began: places in shared memory and what comes there.

    `group` is the number of groups that each thread had committed before.
    """

    lanes: Array
    group: Array
    at: Array
    data: Array


@dataclasses.dataclass
class State:
    """`copies` are those under way, and
    `committed` [threads] how many groups of them each thread has closed."""

    lanes: Lanes
    shared: SharedMemory
    buffers: GlobalMemory
    parameters: Parameters
    counts: Counts
    copies: list[Copy] = dataclasses.field(default_factory=list)
    committed: Array = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.committed = np.zeros(self.lanes.count, np.int64)
