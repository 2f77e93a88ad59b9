"""The machine that the exporter runs on, or the container: processor, memory, file systems, pressure, network.

Source: /proc and the version 2 cgroups. Where a cgroup limits memory or processor time, that limit is what there is;
everything else is the machine's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auraconnect_exporter.model import Metric, Part, Reading, Reason, Sample
from auraconnect_exporter.probes import cgroup, procfs
from auraconnect_exporter.probes.base import Probe, ProbeError
from auraconnect_exporter.probes.filesystems import FileSystems, Space, StatVfs
from auraconnect_exporter.probes.mounts import Mount, mount_table, mounts_to_watch
from auraconnect_exporter.probes.pressure import RESOURCES, pressure
from auraconnect_exporter.targets import Host

CPU_USAGE = Metric("host_cpu_usage_ratio", "gauge", "Share of processor time in use since the last check.")
MEMORY_TOTAL = Metric("host_memory_total_bytes", "gauge", "Memory of the machine, or a container's limit.")
MEMORY_AVAILABLE = Metric("host_memory_available_bytes", "gauge", "Memory that can be had without swapping.")
SWAP_TOTAL = Metric("host_swap_total_bytes", "gauge", "Swap space of the machine.")
SWAP_FREE = Metric("host_swap_free_bytes", "gauge", "Swap space of the machine that is not in use.")
LOAD = tuple(
    Metric(f"host_load{minutes}", "gauge", f"Load average of {minutes} minute{'s'[: minutes > 1]}.")
    for minutes in (1, 5, 15)
)
DESCRIPTORS = Metric("host_file_descriptors_allocated", "gauge", "Open files in the whole system.")
MAX_DESCRIPTORS = Metric("host_file_descriptors_maximum", "gauge", "Most files that may be open in the whole system.")

_FILESYSTEM: Final = ("mountpoint", "fstype")
FILESYSTEM_SIZE = Metric("host_filesystem_size_bytes", "gauge", "Size of a file system.", _FILESYSTEM)
FILESYSTEM_AVAILABLE = Metric(
    "host_filesystem_avail_bytes", "gauge", "Space that an unprivileged user can still use.", _FILESYSTEM
)
FILESYSTEM_FILES = Metric("host_filesystem_files", "gauge", "Inodes of a file system that counts them.", _FILESYSTEM)
FILESYSTEM_FILES_FREE = Metric(
    "host_filesystem_files_free", "gauge", "Inodes that an unprivileged user can still use.", _FILESYSTEM
)

PRESSURE_WAITING = Metric(
    "host_pressure_waiting_seconds_total", "counter", "Time in which some task waited for a resource.", ("resource",)
)
PRESSURE_STALLED = Metric(
    "host_pressure_stalled_seconds_total", "counter", "Time in which all tasks waited for a resource.", ("resource",)
)

NETWORK = {
    name: Metric(f"host_network_{name}_total", "counter", help_, ("device",))
    for name, help_ in {
        "receive_bytes": "Bytes that a network device has received.",
        "receive_errors": "Packets that a network device could not receive.",
        "transmit_bytes": "Bytes that a network device has sent.",
        "transmit_errors": "Packets that a network device could not send.",
    }.items()
}

FILESYSTEM_SECONDS: Final = 1.0
"""How long a file system may take to say how full it is, where the check itself has the time."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one cgroup allows, None where it sets no limit: bytes, and processors."""

    folder: Path
    memory: int | None
    processors: float | None


@dataclass(slots=True)
class _Figures:
    """What a reading has brought: samples, and in words what is wrong."""

    samples: list[Sample]
    findings: tuple[str, ...] = ()


class HostProbe(Probe):
    """Watches this machine; ``root`` is where its /proc and /sys are."""

    collectors = ("system", "filesystems", "pressure", "network")

    def __init__(
        self,
        system: Host,
        timeout: float,
        monotonic: Callable[[], float],
        root: Path = Path("/"),
        statvfs: StatVfs = os.statvfs,
    ) -> None:
        self._system = system
        self._monotonic = monotonic
        self._root = root
        self._proc = root / "proc"
        self._filesystems = FileSystems(min(FILESYSTEM_SECONDS, timeout / 2), statvfs)
        self._mountinfo = b""
        self._mounts: list[Mount] = []
        self._written: set[str] = set()
        self._hierarchy: Mount | None = None
        self._limits: list[_Limits] = []
        self._cpu: procfs.CpuTimes | None = None
        self._spent: dict[Path, tuple[float, float]] = {}

    async def check(self) -> Reading:
        """Read /proc and the cgroups, and ask each file system."""
        parts = (
            _part("system", self._read_limits, self._read_cpu, self._read_memory, self._read_load, self._read_files),
            await self._read_filesystems(),
            self._pressure_part(),
            _part("network", self._read_network),
        )
        if not any(part.samples for part in parts):
            raise ProbeError(Reason.ERROR, f"nothing of this machine can be read: {parts[0].problem}")
        return Reading(parts)

    async def close(self) -> None:
        """Forget the file systems that hang."""
        self._filesystems.close()

    def _read_limits(self) -> _Figures:
        """Find the cgroups that limit what there is, for the other readings."""
        self._limits = []
        self._read_mounts()
        if self._hierarchy is None:
            return _Figures([])
        for folder in cgroup.cgroup_folders(_content(self._proc / "self/cgroup"), self._hierarchy):
            path = self._root / folder.relative_to("/")
            memory_max, cpu_max = _content_if_any(path / "memory.max"), _content_if_any(path / "cpu.max")
            memory = cgroup.memory_limit(memory_max) if memory_max is not None else None
            processors = cgroup.processors(cpu_max) if cpu_max is not None else None
            if memory is not None or processors is not None:
                self._limits.append(_Limits(path, memory, processors))
        return _Figures([])

    def _read_cpu(self) -> _Figures:
        """Compare with the last check; at the first one there is nothing to compare with."""
        before, self._cpu = self._cpu, procfs.cpu_times(_content(self._proc / "stat"))
        quotas = {one.folder: one.processors for one in self._limits if one.processors is not None}
        spent_before, self._spent = self._spent, {folder: self._time_spent(folder) for folder in quotas}
        usages = []
        for folder in quotas.keys() & spent_before.keys():
            (then, spent_then), (now, spent) = spent_before[folder], self._spent[folder]
            if now > then:
                allowed = min(quotas[folder], self._cpu.processors) * (now - then)
                usages.append(min(1.0, max(0.0, (spent - spent_then) / allowed)))
        if not quotas and before is not None and (usage := self._cpu.usage_since(before)) is not None:
            usages.append(usage)
        return _Figures([CPU_USAGE.sample(max(usages))] if usages else [])

    def _time_spent(self, folder: Path) -> tuple[float, float]:
        """Return the moment, and the processor time that a cgroup has used until then, both in seconds."""
        return self._monotonic(), cgroup.counter(_content(folder / "cpu.stat"), b"usage_usec") / 1e6

    def _read_memory(self) -> _Figures:
        """Of the machine and each cgroup that limits it, the smallest total and the least that is left count."""
        info = procfs.meminfo(_content(self._proc / "meminfo"))
        if missing := {b"MemTotal", b"MemAvailable", b"SwapTotal", b"SwapFree"} - info.keys():
            raise ValueError(f"/proc/meminfo has no {min(missing).decode()}")
        total, available = info[b"MemTotal"], info[b"MemAvailable"]
        for one in self._limits:
            if one.memory is not None:
                # The kernel drops what it has read from files and not needed since, before a limit is felt.
                reclaimable = cgroup.counter(_content(one.folder / "memory.stat"), b"inactive_file")
                in_use = int(_content(one.folder / "memory.current")) - reclaimable
                total, available = min(total, one.memory), min(available, one.memory - in_use)
        available = min(total, max(0, available))
        usage = 1 - available / total if total else 1.0
        samples = [
            MEMORY_TOTAL.sample(total),
            MEMORY_AVAILABLE.sample(available),
            SWAP_TOTAL.sample(info[b"SwapTotal"]),
            SWAP_FREE.sample(info[b"SwapFree"]),
        ]
        return _Figures(samples, (f"{usage:.0%} of the memory is in use",) if usage > self._system.memory_usage else ())

    def _read_load(self) -> _Figures:
        averages = procfs.load_averages(_content(self._proc / "loadavg"))
        return _Figures([metric.sample(average) for metric, average in zip(LOAD, averages, strict=True)])

    def _read_files(self) -> _Figures:
        allocated, maximum = procfs.file_descriptors(_content(self._proc / "sys/fs/file-nr"))
        return _Figures([DESCRIPTORS.sample(allocated), MAX_DESCRIPTORS.sample(maximum)])

    def _read_mounts(self) -> None:
        """Look at the table of mounts, which is long on some machines and seldom changes."""
        mountinfo = _content(self._proc / "self/mountinfo")
        if mountinfo == self._mountinfo:
            return
        table = mount_table(mountinfo)
        self._mounts = mounts_to_watch(table, self._system.filesystems, self._written)
        self._written = {
            mount.mountpoint for mount in self._mounts if not mount.read_only or mount.mountpoint in self._written
        }
        self._hierarchy = next((mount for mount in table if mount.fstype == "cgroup2"), None)
        self._mountinfo = mountinfo

    async def _read_filesystems(self) -> Part:
        try:
            self._read_mounts()
        except (OSError, ValueError) as error:
            return Part("filesystems", problem=_sentence(error))
        answers = await self._filesystems.ask([mount.mountpoint for mount in self._mounts])
        samples: list[Sample] = []
        findings: list[str] = []
        mounted = {mount.mountpoint for mount in self._mounts}
        problems = [f"{path} is not mounted" for path in self._system.filesystems if path not in mounted]
        for mount in self._mounts:
            match answers.get(mount.mountpoint):
                case None:
                    problems.append(f"{mount.label} does not answer")
                case OSError() as refusal:
                    problems.append(f"{mount.label}: {refusal.strerror}")
                case Space() as space:
                    samples += _space_samples(mount, space)
                    findings += _space_findings(mount, space, self._system.disk_usage)
            if mount.read_only and mount.mountpoint in self._written:
                findings.append(f"{mount.label} has become read-only")
        return Part("filesystems", tuple(samples), tuple(findings), "; ".join(problems))

    def _pressure_part(self) -> Part:
        accounts = [self._proc / "pressure", *(one.folder / "cpu.pressure" for one in self._limits[:1])]
        if not any(path.exists() for path in accounts):
            return Part("pressure", absent="this kernel does not count pressure (CONFIG_PSI, or psi=1 at its start)")
        return _part("pressure", self._read_pressure)

    def _read_pressure(self) -> _Figures:
        """Read what the container feels, where it is limited; otherwise what the machine does."""
        figures = _Figures([])
        for resource in RESOURCES:
            own = _content_if_any(self._limits[0].folder / f"{resource}.pressure") if self._limits else None
            seen = pressure(_content(self._proc / "pressure" / resource) if own is None else own)
            figures.samples.append(PRESSURE_WAITING.sample(seen.waiting, resource))
            figures.samples.append(PRESSURE_STALLED.sample(seen.stalled, resource))
            if resource == "memory" and seen.stalled_lately > self._system.memory_pressure:
                figures.findings += (f"everything waited for memory in {seen.stalled_lately:.0%} of the last minute",)
        return figures

    def _read_network(self) -> _Figures:
        samples = []
        for device, traffic in procfs.network_devices(_content(self._proc / "self/net/dev")).items():
            samples.append(NETWORK["receive_bytes"].sample(traffic.received, device))
            samples.append(NETWORK["receive_errors"].sample(traffic.receive_errors, device))
            samples.append(NETWORK["transmit_bytes"].sample(traffic.sent, device))
            samples.append(NETWORK["transmit_errors"].sample(traffic.send_errors, device))
        return _Figures(samples)


def _space_samples(mount: Mount, space: Space) -> list[Sample]:
    labels = mount.label, mount.fstype
    samples = [FILESYSTEM_SIZE.sample(space.size, *labels), FILESYSTEM_AVAILABLE.sample(space.available, *labels)]
    if space.files:  # some make inodes as they need them
        samples.append(FILESYSTEM_FILES.sample(space.files, *labels))
        samples.append(FILESYSTEM_FILES_FREE.sample(space.files_available, *labels))
    return samples


def _space_findings(mount: Mount, space: Space, limit: float) -> list[str]:
    """Say what is nearly used up; ``limit`` is a ratio, and the usage is counted as the rules count it."""
    findings = []
    if space.size and (usage := 1 - space.available / space.size) > limit:
        findings.append(f"{mount.label} is {usage:.0%} full")
    if space.files and (usage := 1 - space.files_available / space.files) > limit:
        findings.append(f"{usage:.0%} of the inodes of {mount.label} are in use")
    return findings


def _part(collector: str, *readings: Callable[[], _Figures]) -> Part:
    """Take each reading; one that can't be taken costs its own figures."""
    samples: list[Sample] = []
    findings: list[str] = []
    problems: list[str] = []
    for reading in readings:
        try:
            figures = reading()
        except (OSError, ValueError) as error:
            problems.append(_sentence(error))
            continue
        samples += figures.samples
        findings += figures.findings
    return Part(collector, tuple(samples), tuple(findings), "; ".join(problems))


def _sentence(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _content(path: Path) -> bytes:
    """Return what a file of the kernel says. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return file.readall()


def _content_if_any(path: Path) -> bytes | None:
    try:
        return _content(path)
    except FileNotFoundError:
        return None
