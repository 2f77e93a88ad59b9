"""How long tasks have waited for processor, memory and disk (pressure stall information), taken apart.

Source: the kernel's Documentation/accounting/psi.rst; the files of a cgroup have the same form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RESOURCES: Final = ("cpu", "memory", "io")


@dataclass(frozen=True, slots=True)
class Pressure:
    """Seconds in which some task waited for a resource (``waiting``), and in which all did (``stalled``)."""

    waiting: float
    stalled: float
    stalled_lately: float
    """Share of the last minute in which all waited, 0 to 1."""


def pressure(text: bytes) -> Pressure:
    """Read the file of one resource. Raises ValueError for text that has no such form.

    Kernels before 5.13 have no line ``full`` for the processor: there was always a task that ran.
    """
    lines = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        lines[kind] = dict(field.split(b"=", 1) for field in fields)
    if b"some" not in lines:
        raise ValueError("the kernel's file on pressure has no line that begins with some")
    full = lines.get(b"full", {b"total": b"0", b"avg60": b"0"})
    try:
        return Pressure(int(lines[b"some"][b"total"]) / 1e6, int(full[b"total"]) / 1e6, float(full[b"avg60"]) / 100)
    except KeyError as missing:
        raise ValueError(f"the kernel's file on pressure has no {missing}") from None
