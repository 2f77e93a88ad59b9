"""The host probe: this machine's own figures, which file systems count, and one that hangs."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from auraconnect_exporter.probes.host import MAX_FILESYSTEMS, Mount, mounts_to_watch
from auraconnect_exporter.targets import Host
from tests.builders import collectors
from tests.probes.conftest import Watch
from tests.probes.support import value, values


def meminfo() -> dict[str, int]:
    """Return what the kernel says of memory, in bytes (proc(5))."""
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    return {name.rstrip(":"): int(kibibytes) * 1024 for name, kibibytes, *_ in lines}


def loadavg() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes (proc(5))."""
    return [float(number) for number in Path("/proc/loadavg").read_text().split()[:3]]


async def test_values_are_those_of_the_kernel(watch: Watch) -> None:
    """Memory as /proc/meminfo has it, load as /proc/loadavg has it, space as df has it."""
    attempt = await watch(Host(("/",))).attempt()
    memory = meminfo()
    assert value(attempt, "host_memory_total_bytes") == memory["MemTotal"]
    assert value(attempt, "host_memory_available_bytes") == pytest.approx(memory["MemAvailable"], rel=0.1)
    load = [value(attempt, f"host_load{minutes}") for minutes in (1, 5, 15)]
    assert load == pytest.approx(loadavg(), abs=0.5)
    space = shutil.disk_usage("/")
    sizes, available = values(attempt, "host_filesystem_size_bytes"), values(attempt, "host_filesystem_avail_bytes")
    assert [(labels[0], size) for labels, size in sizes.items()] == [("/", space.total)]
    assert list(available.values()) == [pytest.approx(space.free, rel=0.05)]
    assert collectors(attempt) == {"system": True, "filesystems": True}
    assert attempt.reading.degraded == ()


class Times(NamedTuple):
    """The processor's seconds, as psutil names them on Linux."""

    user: float
    system: float
    idle: float
    iowait: float
    guest: float
    guest_nice: float = 0.0


async def test_processor_usage_is_what_is_not_idle_between_two_checks(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guest time is part of user time; waiting for the disk is idleness; at the first check there is no before."""
    readings = [
        Times(user=100, system=50, idle=800, iowait=50, guest=40),
        Times(user=106, system=52, idle=810, iowait=52, guest=45),  # 20 s passed, 8 of them busy
        Times(user=116, system=52, idle=810, iowait=52, guest=45),  # all busy
        Times(user=116, system=52, idle=820, iowait=52, guest=45),  # all idle
        Times(user=116, system=52, idle=820, iowait=52, guest=45),  # no time passed
        Times(user=110, system=52, idle=840, iowait=50, guest=45),  # counters of a virtual machine may step back
    ]
    monkeypatch.setattr(psutil, "cpu_times", lambda: readings.pop(0))
    watched = watch(Host(("/",)))
    seen = [values(await watched.attempt(), "host_cpu_usage_ratio") for _ in range(6)]
    expected = [{}, {(): 0.4}, {(): 1.0}, {(): 0.0}, {}, {(): 0.0}]
    assert [{key: pytest.approx(ratio) for key, ratio in one.items()} for one in expected] == seen


async def test_a_file_system_that_is_not_there_shows_as_a_failed_collector(watch: Watch) -> None:
    """What was asked for and can't be read is said so; the others are read."""
    attempt = await watch(Host(("/", "/not/mounted"))).attempt()
    assert attempt.ok
    assert [labels[0] for labels in values(attempt, "host_filesystem_size_bytes")] == ["/"]
    assert collectors(attempt) == {"system": True, "filesystems": False}


async def test_a_file_system_that_hangs_is_asked_once_until_it_answers(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs its own figures and one second, once; when it answers it is back."""
    released = threading.Event()
    asked: list[str] = []
    real = os.statvfs

    def ask(path: str) -> os.statvfs_result:
        asked.append(path)
        if path == "/lost":
            released.wait()
        return real("/")

    monkeypatch.setattr(os, "statvfs", ask)
    watched = watch(Host(("/", "/lost")))
    attempts = [await watched.attempt() for _ in range(3)]
    assert [attempt.ok for attempt in attempts] == [True] * 3
    for attempt in attempts:
        assert [labels[0] for labels in values(attempt, "host_filesystem_size_bytes")] == ["/"]
    assert asked.count("/lost") == 1
    assert asked.count("/") == 3
    assert attempts[0].duration == pytest.approx(1.0, abs=0.3)
    assert attempts[1].duration < 0.3
    released.set()
    while ("/lost", "none") not in values(attempt := await watched.attempt(), "host_filesystem_size_bytes"):
        await asyncio.sleep(0.01)
    assert collectors(attempt) == {"system": True, "filesystems": True}
    assert asked.count("/lost") == 1
    await watched.attempt()
    assert asked.count("/lost") == 2


async def test_a_host_that_is_no_longer_watched_waits_for_no_file_system(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing gives up the question; the thread that asks ends when it ends."""
    released = threading.Event()
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda _: released.wait() and real("/"))
    watched = watch(Host(("/lost",)))
    await watched.attempt()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert len(tasks) == 1
    await watched.runner.close()
    await asyncio.wait(tasks, timeout=1)
    assert [task.cancelled() for task in tasks] == [True]
    released.set()


def paths(table: list[Mount], *wanted: str) -> list[str]:
    """Return the mount points that are watched."""
    return [mount.mountpoint for mount in mounts_to_watch(table, wanted)]


def test_local_file_systems_that_can_fill_up_are_watched() -> None:
    """Disks are; memory, network, images and what is read-only are not."""
    table = [
        Mount("/proc", "proc", "proc"),
        Mount("/", "ext4", "/dev/vda1"),
        Mount("/run", "tmpfs", "tmpfs"),
        Mount("/home", "xfs", "/dev/mapper/vg-home"),
        Mount("/mnt/share", "nfs4", "server:/share"),
        Mount("/snap/core/1", "squashfs", "/dev/loop0", read_only=True),
        Mount("/media/disc", "iso9660", "/dev/sr0"),
        Mount("/mnt/archive", "ext4", "/dev/sdb1", read_only=True),
    ]
    assert paths(table) == ["/", "/home"]


def test_a_device_that_is_mounted_in_several_places_counts_once() -> None:
    """Bind mounts and subvolumes fill up together; the shortest path, then the first by name, stands for all."""
    table = [
        Mount("/", "btrfs", "/dev/vda2"),
        Mount("/etc/hosts", "ext4", "/dev/vdb1"),
        Mount("/data/b", "ext4", "/dev/vdb1"),
        Mount("/data/a", "ext4", "/dev/vdb1"),
        Mount("/home", "btrfs", "/dev/vda2"),
    ]
    assert paths(table) == ["/", "/data/a"]


def test_the_root_of_a_container_is_watched_though_it_is_no_device() -> None:
    """An overlay is where a container writes; also a read-only root counts."""
    assert paths([Mount("/", "overlay", "overlay"), Mount("/dev/shm", "tmpfs", "shm")]) == ["/"]  # noqa: S108  # a name
    assert paths([Mount("/", "ext4", "/dev/vda1", read_only=True)]) == ["/"]


def test_a_mount_hides_the_one_below_it() -> None:
    """The later line of the table is what a path leads to."""
    table = [Mount("/", "ext4", "/dev/vda1"), Mount("/data", "ext4", "/dev/vdb1"), Mount("/data", "tmpfs", "tmpfs")]
    assert paths(table) == ["/"]


def test_what_was_asked_for_is_watched_as_it_is() -> None:
    """Any kind of file system, in the order asked; what is not mounted too, so that its absence shows."""
    table = [Mount("/", "ext4", "/dev/vda1"), Mount("/run", "tmpfs", "tmpfs")]
    wanted = ("/run", "/gone", "/")
    assert mounts_to_watch(table, wanted) == [table[1], Mount("/gone", "none", "/gone"), table[0]]


def test_file_systems_are_limited_in_number() -> None:
    """A machine full of containers does not fill the metrics."""
    table = [Mount(f"/mnt/{number:03}", "ext4", f"/dev/sd{number}") for number in range(2 * MAX_FILESYSTEMS)]
    assert len(paths(table)) == MAX_FILESYSTEMS
