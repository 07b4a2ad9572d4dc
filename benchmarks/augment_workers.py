"""albumentations in processes of its own, as the workers of a DataLoader run it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing import get_context

from benchmarks.augment_rivals import Policy, albumentations_pipeline, as_arrays
from benchmarks.errors import describe


class Workers:
    """Makes views [V, B, 3, h, w] in `count` processes, which end with this object.

    Images and views lie in shared memory that stays, so that nothing is sent but "go" and "done".
    """

    def __init__(self, policy: Policy, views: int, count: int) -> None:
        self.policy, self.views = policy, views
        self.images: Tensor | None = None
        # A fork would copy the state of OpenMP's threads, but not the threads.
        context = get_context("spawn")
        self.ends: list[Connection] = []
        processes: list[BaseProcess] = []
        for index in range(count):
            end, far = context.Pipe()
            process = context.Process(
                target=_work, args=(far, policy, slice(index, None, count)), daemon=True
            )
            process.start()
            far.close()
            self.ends.append(end)
            processes.append(process)
        weakref.finalize(self, _end, self.ends, processes)

    def __call__(self, images: Tensor) -> Tensor:
        if images is not self.images:
            self.images = images
            arrays = as_arrays(images).share_memory_()
            size = (self.policy.height, self.policy.width)
            shape = (self.views, *images.shape[:2], *size)
            self.out = torch.empty(shape).share_memory_()
            self._tell((arrays, self.out))
        self._tell(None)
        return self.out

    def _tell(self, message: tuple[Tensor, Tensor] | None) -> None:
        """Send everyone a message, wait for all, raise what went wrong."""
        for end in self.ends:
            end.send(message)
        problems = [problem for end in self.ends if (problem := end.recv())]
        if problems:
            raise RuntimeError(problems[0])


def _work(end: Connection, policy: Policy, share: slice) -> None:
    """In the process: every message is a new batch, or None for a step on the old one."""
    torch.set_num_threads(1)
    pipeline: Callable[..., dict[str, Any]] | None = None
    pairs: list[tuple[Any, Tensor]] = []
    while True:
        try:
            message = end.recv()
        except EOFError:
            return
        try:
            if message is not None:
                arrays, views = message
                pairs = [(a, v) for one in views for a, v in zip(arrays.numpy(), one, strict=True)]
                pairs = pairs[share]
                pipeline = pipeline or _serial_pipeline(policy)
            elif pipeline is not None:
                for array, view in pairs:
                    view.copy_(pipeline(image=array)["image"])
            end.send(None)
        except Exception as error:
            end.send(describe(error))


def _serial_pipeline(policy: Policy) -> Callable[..., dict[str, Any]]:
    import cv2

    cv2.setNumThreads(0)
    return albumentations_pipeline(policy)


def _end(ends: Sequence[Connection], processes: Sequence[BaseProcess]) -> None:
    for end in ends:
        end.close()
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.terminate()
