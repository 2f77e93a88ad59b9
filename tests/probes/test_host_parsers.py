"""What the kernel says of a machine and a cgroup, taken apart."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter.probes import cgroup, procfs
from auraconnect_exporter.probes.mounts import Mount
from auraconnect_exporter.probes.pressure import Pressure, pressure

STAT = b"""cpu  %d 10 50 %d %d 5 5 20 %d 3
cpu0 1 2 3 4 5 6 7 8 9 10
cpu1 1 2 3 4 5 6 7 8 9 10
intr 240 0 cpu 0
ctxt 3868
"""


def test_processor_usage_is_what_is_not_idle() -> None:
    """Guest time is part of user time; waiting for the disk is idleness; stolen time is not ours, and so in use."""
    before = procfs.cpu_times(STAT % (100, 800, 50, 40))
    assert before == procfs.CpuTimes(total=1040, idle=850, processors=2)
    later = procfs.cpu_times(STAT % (108, 810, 52, 45))
    assert later.usage_since(before) == pytest.approx(8 / 20)
    assert procfs.cpu_times(STAT % (200, 800, 50, 40)).usage_since(before) == 1.0
    assert procfs.cpu_times(STAT % (100, 900, 50, 40)).usage_since(before) == 0.0


def test_no_time_is_no_usage_and_idle_time_that_steps_back_is_no_more_than_all() -> None:
    """Two checks within a tick say nothing; the counters of a virtual machine may step back."""
    before = procfs.cpu_times(STAT % (100, 800, 50, 40))
    assert before.usage_since(before) is None
    assert procfs.cpu_times(STAT % (90, 800, 50, 40)).usage_since(before) is None
    assert procfs.cpu_times(STAT % (110, 799, 50, 40)).usage_since(before) == 1.0
    assert procfs.cpu_times(STAT % (90, 900, 50, 40)).usage_since(before) == 0.0


def test_memory_is_in_bytes() -> None:
    """The kernel's kB are KiB; what has no unit is a number."""
    text = b"MemTotal:       24683656 kB\nHugePages_Total:       7\n"
    assert procfs.meminfo(text) == {b"MemTotal": 24683656 * 1024, b"HugePages_Total": 7}


def test_load_and_open_files() -> None:
    """Three averages; of the open files the second number, which is always 0, is left out."""
    assert procfs.load_averages(b"1.50 0.80 0.10 2/150 4711\n") == (1.5, 0.8, 0.1)
    assert procfs.file_descriptors(b"752\t0\t2466165\n") == (752, 2466165)


HEADINGS = b"Inter-|   Receive  |  Transmit\n face |bytes ...|bytes ...\n"


def device(name: bytes) -> bytes:
    return b"%6s: 1074875081 31150 3 0 0 0 0 0 1987216 15630 4 0 0 0 0 0\n" % name


def test_network_devices_that_lead_off_the_machine() -> None:
    """The loopback and the ends of containers' cables are left out, a name of any bytes is none that breaks us."""
    table = HEADINGS + b"".join(
        map(device, (b"lo", b"eth0", b"veth12ab", b"cali7", b"bond0.7", b"\xff\x01", b"\xfe\x01"))
    )
    found = procfs.network_devices(table)
    assert list(found) == ["eth0", "bond0.7", "�\x01"]
    assert found["eth0"] == procfs.Traffic(1074875081, 3, 1987216, 4)


def test_network_devices_are_limited_in_number() -> None:
    """A machine with hundreds of tunnels does not fill the metrics."""
    table = HEADINGS + b"".join(device(b"tun%d" % number) for number in range(2 * procfs.MAX_DEVICES))
    assert len(procfs.network_devices(table)) == procfs.MAX_DEVICES


def test_pressure_in_seconds() -> None:
    """Totals are microseconds; the share of the last minute is a percentage."""
    text = (
        b"some avg10=2.58 avg60=1.71 avg300=2.09 total=7181305770\n"
        b"full avg10=0.00 avg60=20.50 avg300=0.00 total=1500000\n"
    )
    assert pressure(text) == Pressure(7181.30577, 1.5, 0.205)
    assert pressure(text.splitlines()[0]) == Pressure(7181.30577, 0.0, 0.0)


RECORDED = Path(__file__).parent / "recorded/container/sys/fs/cgroup/pod/box"


def test_limits_and_counters_of_a_cgroup() -> None:
    """As a kernel wrote them; ``max`` is no limit; a counter's name is the whole name."""
    assert cgroup.memory_limit((RECORDED / "memory.max").read_bytes()) == 200 * 1024 * 1024
    assert cgroup.memory_limit(b"max\n") is None
    assert cgroup.processors((RECORDED / "cpu.max").read_bytes()) == 0.5
    assert cgroup.processors(b"max 100000\n") is None
    assert cgroup.counter(b"anon 1\nworkingset_inactive_file 7\ninactive_file 42\n", b"inactive_file") == 42
    assert cgroup.counter(b"usage_usec 5\nuser_usec 3\n", b"usage_usec") == 5


def folders(text: bytes, mountpoint: str = "/sys/fs/cgroup", root: str = "/") -> list[str]:
    found = cgroup.cgroup_folders(text, Mount(mountpoint, "cgroup2", "cgroup2", root=root))
    return [str(folder.relative_to(PurePosixPath(mountpoint))) for folder in found]


def test_every_cgroup_from_the_own_one_to_the_root_counts() -> None:
    """A limit counts for all below it; lines of version 1 are not ours."""
    text = b"4:memory:/other\n1:name=systemd:/\n0::/kubepods/pod1/abc\n"
    assert folders(text) == ["kubepods/pod1/abc", "kubepods/pod1", "kubepods", "."]
    assert folders(b"0::/\n") == ["."]
    assert folders(b"0::/system.slice/docker-1.scope") == ["system.slice/docker-1.scope", "system.slice", "."]
    assert folders(b"4:memory:/other\n") == []


def test_a_container_that_sees_a_part_of_the_hierarchy() -> None:
    """What is mounted is its own cgroup, by the name that it has outside; what is not below it can't be looked at."""
    assert folders(b"0::/docker/abc/inner\n", root="/docker/abc") == ["inner", "."]
    assert folders(b"0::/docker/abc\n", root="/docker/abc") == ["."]
    assert folders(b"0::/elsewhere\n", root="/docker/abc") == ["."]
    assert folders(b"0::/../other\n") == ["."]


def test_what_systemd_allows_the_exporter_is_no_limit_of_the_machine() -> None:
    """A service's own cgroup is left out; what stands above it, and a container within a service, counts."""
    assert folders(b"0::/system.slice/auraconnect.service\n") == ["system.slice", "."]
    assert folders(b"0::/system.slice/web.service/libpod-1\n") == [
        "system.slice/web.service/libpod-1",
        "system.slice/web.service",
        "system.slice",
        ".",
    ]


PARSERS = (
    procfs.cpu_times,
    procfs.meminfo,
    procfs.load_averages,
    procfs.file_descriptors,
    procfs.network_devices,
    pressure,
    cgroup.memory_limit,
    cgroup.processors,
    lambda text: cgroup.counter(text, b"inactive_file"),
)


@given(
    text=st.binary(max_size=60) | st.sampled_from([b"", b"cpu 1", b"some", b"full x=", b"inactive_file x", b"1 2 3"])
)
def test_other_text_is_refused_or_read_but_breaks_nothing(text: bytes) -> None:
    """Whatever a file holds, a parser returns something or raises ValueError, which costs one part only."""
    for parse in PARSERS:
        with contextlib.suppress(ValueError):
            assert parse(text) is not NotImplemented
