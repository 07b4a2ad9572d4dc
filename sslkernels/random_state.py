"""The state of torch's random generators, to draw the same numbers again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """The default generators' states: of the CPU and of every device of the accelerator in use."""

    cpu: Tensor
    accelerator: tuple[Tensor, ...]

    @staticmethod
    def now() -> RandomState:
        devices = _accelerators()
        return RandomState(
            torch.get_rng_state(),
            tuple(torch.get_device_module(d).get_rng_state(*_which(d)) for d in devices),
        )

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        for device, state in zip(_accelerators(), self.accelerator, strict=False):
            torch.get_device_module(device).set_rng_state(state, *_which(device))


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """What a device module wants to know: there is one MPS device, and no name for it."""
    return () if device.type == "mps" else (device,)


def _accelerators() -> list[torch.device]:
    """None as long as nothing has run on one: to ask it would start it, which takes memory."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    module = torch.get_device_module(accelerator)
    if not getattr(module, "is_initialized", lambda: True)():
        return []
    count = torch.accelerator.device_count()
    return [torch.device(accelerator.type, index) for index in range(count)]
