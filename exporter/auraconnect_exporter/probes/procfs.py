"""What the kernel says of the machine in /proc, taken apart. Pure functions of a file's bytes.

Source: proc(5). Each raises ValueError for text that is not what the file should hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_DEVICES: Final = 30

# The loopback, and the machine's ends of what leads into containers: as many as those, under made-up names.
_NOT_WIRES: Final = ("lo", "veth", "cali", "lxc", "ifb", "dummy")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """What all processors together have done since the machine started, in ticks, and how many there are."""

    total: int
    idle: int
    processors: int

    def usage_since(self, before: CpuTimes) -> float | None:
        """Return the share of the time since then that was not idle; None when no time has passed."""
        total = self.total - before.total
        if total <= 0:
            return None
        # The idle time of a virtual machine may step back.
        return min(1.0, max(0.0, 1 - (self.idle - before.idle) / total))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through a network device since it came up, in bytes, and how often that failed."""

    received: int
    receive_errors: int
    sent: int
    send_errors: int


def cpu_times(stat: bytes) -> CpuTimes:
    """Read /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice."""
    all_processors, *lines = stat.split(b"\nintr", 1)[0].split(b"\n")
    name, *fields = all_processors.split()
    ticks = [int(field) for field in fields]
    if name != b"cpu" or len(ticks) < 5:  # noqa: PLR2004  # up to iowait
        raise ValueError("/proc/stat does not begin with the processors' times")
    # Guest time is part of user time already; waiting for a disk is idleness.
    return CpuTimes(sum(ticks[:8]), ticks[3] + ticks[4], sum(line.startswith(b"cpu") for line in lines))


def meminfo(text: bytes) -> dict[bytes, int]:
    """Read /proc/meminfo: amounts by name, in bytes."""
    found = {}
    for line in text.splitlines():
        name, _, amount = line.partition(b":")
        number, _, unit = amount.strip().partition(b" ")
        found[name] = int(number) * (1024 if unit == b"kB" else 1)
    return found


def load_averages(loadavg: bytes) -> tuple[float, float, float]:
    """Read /proc/loadavg: the averages over 1, 5 and 15 minutes."""
    one, five, fifteen, *_ = loadavg.split()
    return float(one), float(five), float(fifteen)


def file_descriptors(file_nr: bytes) -> tuple[int, int]:
    """Read /proc/sys/fs/file-nr: open files in the whole system, and the most that may be."""
    allocated, _, maximum = file_nr.split()
    return int(allocated), int(maximum)


def network_devices(dev: bytes) -> dict[str, Traffic]:
    """Read /proc/net/dev: the first ``MAX_DEVICES`` devices that lead off the machine."""
    found: dict[str, Traffic] = {}
    headings, lines = dev.splitlines()[:2], dev.splitlines()[2:]
    if len(headings) < 2 or b"|" not in headings[1]:  # noqa: PLR2004
        raise ValueError("/proc/net/dev does not begin with two lines of headings")
    for line in lines:
        raw, _, counters = line.partition(b":")
        name = raw.strip().decode(errors="replace")
        fields = counters.split()
        if len(fields) < 16:  # noqa: PLR2004  # eight of receiving, eight of sending
            raise ValueError("/proc/net/dev has a line that is no device")
        if not name.startswith(_NOT_WIRES) and len(found) < MAX_DEVICES:
            found[name] = Traffic(int(fields[0]), int(fields[2]), int(fields[8]), int(fields[10]))
    return found
