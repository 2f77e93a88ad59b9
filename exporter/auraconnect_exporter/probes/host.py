"""The machine that the exporter runs on: processor, memory, file systems, load.

Source: psutil, which reads /proc. A file system that hangs (a lost network mount) is asked in a thread of its own and
set aside until it answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import psutil

from auraconnect_exporter.blocking import in_daemon_thread
from auraconnect_exporter.model import Metric, Part, Reading, Sample
from auraconnect_exporter.probes.base import Probe
from auraconnect_exporter.targets import Host

CPU_USAGE = Metric("host_cpu_usage_ratio", "gauge", "Share of processor time in use since the last check.")
MEMORY_TOTAL = Metric("host_memory_total_bytes", "gauge", "Memory of the machine.")
MEMORY_AVAILABLE = Metric("host_memory_available_bytes", "gauge", "Memory that can be had without swapping.")
FILESYSTEM_SIZE = Metric("host_filesystem_size_bytes", "gauge", "Size of a file system.", ("mountpoint", "fstype"))
FILESYSTEM_AVAILABLE = Metric(
    "host_filesystem_avail_bytes", "gauge", "Space that an unprivileged user can still use.", ("mountpoint", "fstype")
)
LOAD = {
    minutes: Metric(f"host_load{minutes}", "gauge", f"Load average of {minutes} minute{'s'[: minutes > 1]}.")
    for minutes in (1, 5, 15)
}

FILESYSTEM_SECONDS: Final = 1.0
"""How long a file system may take to say how full it is."""

MAX_FILESYSTEMS: Final = 100

# Images that are mounted read-only are full by nature.
_FULL_BY_NATURE: Final = frozenset({"cramfs", "erofs", "iso9660", "squashfs", "udf"})


class CpuTimes(Protocol):
    """The part of ``psutil.cpu_times()`` that is used: seconds since the start of the machine."""

    idle: float


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system and where it is mounted."""

    mountpoint: str
    fstype: str
    device: str
    read_only: bool = False


class HostProbe(Probe):
    """Watches this machine."""

    collectors = ("system", "filesystems")

    def __init__(self, system: Host) -> None:
        self._mountpoints = system.filesystems
        self._cpu: tuple[float, float] | None = None
        self._asked: dict[str, asyncio.Task[tuple[int, int]]] = {}

    async def check(self) -> Reading:
        """Read /proc and ask each file system."""
        memory = psutil.virtual_memory()
        filesystems, complete = await self._filesystems()
        load = zip(LOAD.values(), os.getloadavg(), strict=True)
        system = (
            *self._cpu_usage(),
            MEMORY_TOTAL.sample(memory.total),
            MEMORY_AVAILABLE.sample(memory.available),
            *(metric.sample(value) for metric, value in load),
        )
        problem = "" if complete else "a file system does not say how full it is"
        return Reading((Part("system", system), Part("filesystems", tuple(filesystems), problem=problem)))

    def _cpu_usage(self) -> tuple[Sample, ...]:
        """Return the usage since the last check; nothing at the first one."""
        times = psutil.cpu_times()
        # Guest time is part of user time already.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        before, self._cpu = self._cpu, (total, idle)
        if before is None or total <= before[0]:
            return ()
        usage = 1 - (idle - before[1]) / (total - before[0])
        return (CPU_USAGE.sample(min(1.0, max(0.0, usage))),)

    async def _filesystems(self) -> tuple[list[Sample], bool]:
        """Return the samples of the file systems that answer, and whether all did."""
        table = mounts_to_watch(_mount_table(), self._mountpoints)
        asked = {
            mount.mountpoint: asyncio.create_task(_space(mount.mountpoint))
            for mount in table
            if mount.mountpoint not in self._asked
        }
        self._asked |= asked
        if asked:
            await asyncio.wait(asked.values(), timeout=FILESYSTEM_SECONDS)
        samples: list[Sample] = []
        for mount in table:
            task = self._asked[mount.mountpoint]
            if not task.done():
                continue  # it hangs: the question stays asked, and nobody waits for it again
            del self._asked[mount.mountpoint]
            if task.exception() is None:
                size, available = task.result()
                samples.append(FILESYSTEM_SIZE.sample(size, mount.mountpoint, mount.fstype))
                samples.append(FILESYSTEM_AVAILABLE.sample(available, mount.mountpoint, mount.fstype))
        return samples, len(samples) == 2 * len(table)

    async def close(self) -> None:
        """Forget the questions that nobody answered."""
        for task in self._asked.values():
            task.cancel()
        self._asked.clear()


def _mount_table() -> list[Mount]:
    return [
        Mount(part.mountpoint, part.fstype, part.device, "ro" in part.opts.split(","))
        for part in psutil.disk_partitions(all=True)
    ]


def mounts_to_watch(table: Iterable[Mount], wanted: tuple[str, ...]) -> list[Mount]:
    """Return the mounts that were asked for, else every local one that can fill up.

    A device that is mounted in several places counts once, at its shortest path; ``/`` always counts, also where it is
    a container's overlay. What is asked for and not mounted is asked about as it stands, so that its absence is seen.
    """
    topmost = {mount.mountpoint: mount for mount in table}  # a later mount hides an earlier one
    if wanted:
        return [topmost.get(path, Mount(path, "none", path)) for path in wanted]
    devices: dict[str, Mount] = {}
    for mount in sorted(topmost.values(), key=lambda mount: (len(mount.mountpoint), mount.mountpoint)):
        local = mount.device.startswith("/dev/") and mount.fstype not in _FULL_BY_NATURE and not mount.read_only
        if local or mount.mountpoint == "/":
            devices.setdefault(mount.device, mount)
    return list(devices.values())[:MAX_FILESYSTEMS]


async def _space(path: str) -> tuple[int, int]:
    """Return size and available space in bytes."""
    stat = await in_daemon_thread(lambda: os.statvfs(path))
    return stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
