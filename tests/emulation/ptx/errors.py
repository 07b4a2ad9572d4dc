"""What the emulator complains of. A message ends with the instruction and where it stands."""

from __future__ import annotations


class Fault(RuntimeError):
    """The kernel did something whose outcome a GPU leaves undefined."""


class OutOfBounds(Fault):
    """An address outside every buffer of the launch, or outside the block's shared memory."""


class Misaligned(Fault):
    """An address that is no multiple of the access's size."""


class Race(Fault):
    """Two warps meet at a shared byte with no barrier between, or two blocks at a global one."""


class Unwritten(Fault):
    """Shared memory is read before anything was written there."""


class PendingCopy(Fault):
    """Shared memory is touched while an asynchronous copy to it may be under way."""


class Divergence(Fault):
    """Threads are missing where an instruction needs all of them."""


class AssertionFailed(Fault):
    """An assertion of the kernel's own does not hold."""


class Unsupported(NotImplementedError):
    """PTX that the emulator lacks."""


class Malformed(ValueError):
    """Text that is no PTX."""
