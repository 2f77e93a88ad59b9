"""The host probe: what a machine and a container have, what is too much, and what can't be read."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from auraconnect_exporter.model import Attempt, Reason
from auraconnect_exporter.probes.filesystems import StatVfs
from auraconnect_exporter.probes.host import HostProbe
from auraconnect_exporter.targets import Host
from tests.builders import FakeClock, collectors
from tests.probes.conftest import Watch
from tests.probes.support import Leaks, Watched, value, values

RECORDED = Path(__file__).parent / "recorded/container"
MIB = 1024 * 1024


def room(size: int = 1000, available: int = 600, files: int = 0, files_available: int = 0) -> os.statvfs_result:
    """Return what a file system says: blocks of 4096 bytes, inodes."""
    return os.statvfs_result((4096, 4096, size, available, available, files, files_available, files_available, 0, 255))


class Machine:
    """A machine's /proc and /sys, which a test may change, and a probe that watches it."""

    def __init__(self, root: Path, *, system: Host = Host(), statvfs: StatVfs = lambda _: room()) -> None:  # noqa: B008  # frozen
        shutil.copytree(RECORDED, root, dirs_exist_ok=True)
        self.root = root
        self.clock = FakeClock()
        self._watched = Watched(lambda: HostProbe(system, 2.0, self.clock.monotonic, root, statvfs), 2.0)

    def __getitem__(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, text: str) -> None:
        """Let a file of the kernel say something else."""
        self[name].parent.mkdir(parents=True, exist_ok=True)
        self[name].write_text(text, encoding="utf-8")

    def mount(self, *lines: str) -> None:
        """Let these be the mounts, beside the cgroups'."""
        cgroups = "25 23 0:22 / /sys/fs/cgroup rw - cgroup2 cg rw"
        self.write("proc/self/mountinfo", "\n".join((cgroups, *lines)) + "\n")

    async def attempt(self) -> Attempt:
        return await self._watched.attempt()

    async def close(self) -> None:
        await self._watched.runner.close()


MakeMachine = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path) -> MakeMachine:
    """Return a way to make a machine."""
    return lambda **settings: Machine(tmp_path / "machine", **settings)


CGROUP = "sys/fs/cgroup/pod"


async def test_a_container_has_what_its_cgroups_leave_it(machine: MakeMachine) -> None:
    """The tightest limit on the way up is the total; available is what every level leaves or can drop."""
    container = machine()
    attempt = await container.attempt()
    in_use = int(container[f"{CGROUP}/memory.current"].read_text())
    stat = dict(line.split() for line in container[f"{CGROUP}/memory.stat"].read_text().splitlines())
    assert value(attempt, "host_memory_total_bytes") == 150 * MIB
    assert value(attempt, "host_memory_available_bytes") == 150 * MIB - (in_use - int(stat["inactive_file"]))

    container.write(f"{CGROUP}/box/memory.max", str(120 * MIB))
    assert value(await container.attempt(), "host_memory_total_bytes") == 120 * MIB

    # The own limit is far away, but the neighbours have filled what is shared.
    container.write(f"{CGROUP}/memory.current", str(149 * MIB))
    container.write(f"{CGROUP}/memory.stat", "anon 0\ninactive_file 1048576\n")
    attempt = await container.attempt()
    assert value(attempt, "host_memory_available_bytes") == 2 * MIB
    assert attempt.reading.degraded == ("98% of the memory is in use",)


async def test_without_a_limit_the_machine_is_what_there_is(machine: MakeMachine) -> None:
    """Also where the limit is above what the machine has, and where there are no cgroups of version 2."""
    container = machine()
    container.write(f"{CGROUP}/memory.max", "max\n")
    container.write(f"{CGROUP}/box/memory.max", str(2**50))
    lines = [line.split() for line in container["proc/meminfo"].read_text().splitlines()]
    memory = {name.rstrip(":"): int(amount) * 1024 for name, amount, *_ in lines}
    for _ in range(2):
        attempt = await container.attempt()
        assert value(attempt, "host_memory_total_bytes") == memory["MemTotal"]
        assert value(attempt, "host_memory_available_bytes") == memory["MemAvailable"]
        container.write("proc/self/mountinfo", "20 1 0:18 / / rw - ext4 /dev/vda rw\n")
    assert collectors(attempt)["system"]


async def test_usage_of_a_container_is_that_of_its_quota(machine: MakeMachine) -> None:
    """Half a processor that is used for half of the time is 50%; more than allowed is all; no count steps back."""
    container = machine()
    spent = 1_000_000
    seen = []
    for microseconds in (0, 2_500_000, 7_500_000, -1_000_000):
        spent += microseconds
        container.write("proc/stat", f"cpu  {spent} 0 0 0 0 0 0 0 0 0\ncpu0 {spent} 0 0 0 0 0 0 0 0 0\n")
        container.write(f"{CGROUP}/box/cpu.stat", f"usage_usec {spent}\nuser_usec 1\n")
        seen.append(values(await container.attempt(), "host_cpu_usage_ratio"))
        container.clock.advance(10.0)
    assert seen == [{}, {(): 0.5}, {(): 1.0}, {(): 0.0}]


async def test_a_quota_above_the_machine_is_the_machine(machine: MakeMachine) -> None:
    """Nobody can use more processors than there are; of several quotas the fullest counts."""
    container = machine()  # with one processor
    container.write(f"{CGROUP}/box/cpu.max", "400000 100000\n")
    container.write(f"{CGROUP}/cpu.max", "20000 100000\n")
    for spent in (0, 1_000_000):
        container.write(f"{CGROUP}/box/cpu.stat", f"usage_usec {spent}\n")
        container.write(f"{CGROUP}/cpu.stat", f"usage_usec {spent}\n")
        attempt = await container.attempt()
        container.clock.advance(10.0)
    assert value(attempt, "host_cpu_usage_ratio") == pytest.approx(0.5)
    container.write(f"{CGROUP}/cpu.max", "max 100000\n")
    container.write(f"{CGROUP}/box/cpu.stat", "usage_usec 2000000\n")
    assert value(await container.attempt(), "host_cpu_usage_ratio") == pytest.approx(0.1)


async def test_usage_of_a_machine_is_what_is_not_idle(machine: MakeMachine) -> None:
    """Without a quota the processors' own times count."""
    host = machine()
    host.write(f"{CGROUP}/box/cpu.max", "max 100000\n")
    host.write("proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 100 0 0 900 0 0 0 0 0 0\n")
    assert values(await host.attempt(), "host_cpu_usage_ratio") == {}
    host.write("proc/stat", "cpu  130 0 0 970 0 0 0 0 0 0\ncpu0 130 0 0 970 0 0 0 0 0 0\n")
    assert value(await host.attempt(), "host_cpu_usage_ratio") == pytest.approx(0.3)


async def test_pressure_is_what_the_container_feels(machine: MakeMachine) -> None:
    """A limited cgroup has its own account, otherwise the machine's counts; a memory that is too small is a finding."""
    container = machine()
    attempt = await container.attempt()
    assert value(attempt, "host_pressure_waiting_seconds_total", "cpu") == 7181.30577
    assert value(attempt, "host_pressure_stalled_seconds_total", "memory") == 1.25
    assert attempt.reading.degraded == ()

    lately = "some avg10=0.00 avg60=31.00 avg300=0.00 total=7\nfull avg10=0.00 avg60={} avg300=0.00 total=0\n"
    for percent, findings in {
        "20.00": (),
        "20.51": ("everything waited for memory in 21% of the last minute",),
    }.items():
        container.write(f"{CGROUP}/box/memory.pressure", lately.format(percent))
        assert (await container.attempt()).reading.degraded == findings

    for resource in ("cpu", "memory", "io"):
        container[f"{CGROUP}/box/{resource}.pressure"].unlink()
    attempt = await container.attempt()
    assert set(values(attempt, "host_pressure_waiting_seconds_total").values()) == {7e-6}


async def test_a_kernel_without_an_account_of_pressure_is_no_fault(machine: MakeMachine) -> None:
    """There is nothing to read, which is said once and fails nothing."""
    container = machine()
    container.write(f"{CGROUP}/memory.max", "max\n")
    shutil.rmtree(container["proc/pressure"])
    for resource in ("cpu", "memory", "io"):
        container[f"{CGROUP}/box/{resource}.pressure"].unlink()
    attempt = await container.attempt()
    (part,) = [part for part in attempt.reading.parts if part.absent]
    assert (part.collector, part.problem, part.samples) == ("pressure", "", ())
    assert part.absent == "this kernel does not count pressure (CONFIG_PSI, or psi=1 at its start)"


async def test_a_full_file_system_is_a_finding(machine: MakeMachine) -> None:
    """By space or by inodes, above the limit that the configuration sets and not at it."""
    spaces = {
        "/": room(1000, 100),
        "/data": room(1000, 99),
        "/mail": room(1000, 900, files=1000, files_available=20),
    }
    host = machine(statvfs=spaces.__getitem__)
    host.mount(*(f"30 20 8:{index} / {path} rw - ext4 /dev/vd{index} rw" for index, path in enumerate(spaces)))
    attempt = await host.attempt()
    assert attempt.reading.degraded == ("/data is 90% full", "98% of the inodes of /mail are in use")
    assert value(attempt, "host_filesystem_size_bytes", "/data", "ext4") == 4096 * 1000
    assert value(attempt, "host_filesystem_avail_bytes", "/data", "ext4") == 4096 * 99
    assert values(attempt, "host_filesystem_files") == {("/mail", "ext4"): 1000}
    assert value(attempt, "host_filesystem_files_free", "/mail", "ext4") == 20

    patient = machine(system=Host(disk_usage=0.99), statvfs=spaces.__getitem__)
    assert (await patient.attempt()).reading.degraded == ()


async def test_a_disk_that_the_kernel_made_read_only_is_a_finding(machine: MakeMachine) -> None:
    """It goes on being measured; once it can be written to again, or is gone, all is well."""
    host = machine()
    writable = "30 20 8:1 / /data rw - ext4 /dev/vdb rw,errors=remount-ro"
    host.mount(writable)
    assert (await host.attempt()).reading.degraded == ()
    host.mount("30 20 8:1 / /data rw - ext4 /dev/vdb ro,errors=remount-ro")
    for _ in range(2):
        attempt = await host.attempt()
        assert attempt.reading.degraded == ("/data has become read-only",)
        assert values(attempt, "host_filesystem_size_bytes") == {("/data", "ext4"): 4096 * 1000}
    host.mount(writable)
    assert (await host.attempt()).reading.degraded == ()


async def test_what_is_not_mounted_is_said(machine: MakeMachine) -> None:
    """The folder below a mount that is gone would say how full another file system is."""
    host = machine(system=Host(("/", "/backup")))
    attempt = await host.attempt()
    assert [labels[0] for labels in values(attempt, "host_filesystem_size_bytes")] == ["/"]
    assert [part.problem for part in attempt.reading.parts if part.problem] == ["/backup is not mounted"]


OF_FILE = {
    "proc/stat": set[str](),
    "proc/meminfo": {
        "host_memory_total_bytes",
        "host_memory_available_bytes",
        "host_swap_total_bytes",
        "host_swap_free_bytes",
    },
    "proc/loadavg": {"host_load1", "host_load5", "host_load15"},
    "proc/sys/fs/file-nr": {"host_file_descriptors_allocated", "host_file_descriptors_maximum"},
    "proc/pressure/memory": {"host_pressure_waiting_seconds_total", "host_pressure_stalled_seconds_total"},
    "proc/self/net/dev": {f"host_network_{way}_total" for way in ("receive_bytes", "transmit_bytes")}
    | {f"host_network_{way}_total" for way in ("receive_errors", "transmit_errors")},
}


@pytest.mark.parametrize(
    ("collector", "file"),
    [
        *(("system", f"proc/{name}") for name in ("stat", "meminfo", "loadavg", "sys/fs/file-nr")),
        ("pressure", "proc/pressure/memory"),
        ("network", "proc/self/net/dev"),
    ],
)
@pytest.mark.parametrize("content", [None, "nonsense\n", ""])
async def test_a_file_that_cannot_be_read_costs_its_own_figures(
    machine: MakeMachine, collector: str, file: str, content: str | None
) -> None:
    """Gone, garbage or empty: its part has a problem in words, and everything else is there."""
    host = machine()
    for limit in ("memory.max", "box/memory.max", "box/cpu.max"):
        host[f"{CGROUP}/{limit}"].unlink()
    all_of_it = await host.attempt()
    if content is None:
        host[file].unlink()
    else:
        host.write(file, content)
    attempt = await host.attempt()
    assert collectors(attempt) == {part: part != collector for part in HostProbe.collectors}
    lost = {sample.metric for sample in all_of_it.reading.samples} - {
        sample.metric for sample in attempt.reading.samples
    }
    assert {metric.name for metric in lost} <= OF_FILE[file]


async def test_without_a_table_of_mounts_there_is_the_machine_without_file_systems(machine: MakeMachine) -> None:
    """Garbage there costs the file systems, and the system says that it knows of no limit."""
    host = machine()
    host.write("proc/self/mountinfo", "nonsense\n")
    attempt = await host.attempt()
    assert collectors(attempt) == {"system": False, "filesystems": False, "pressure": True, "network": True}
    assert value(attempt, "host_memory_total_bytes") > 400 * MIB


async def test_a_machine_of_which_nothing_can_be_read_is_not_healthy(machine: MakeMachine) -> None:
    """Knowing nothing is a failed check, with the reason in words."""
    host = machine()
    shutil.rmtree(host["proc"])
    attempt = await host.attempt()
    assert attempt.reason is Reason.ERROR
    assert attempt.message.startswith("nothing of this machine can be read: ")


class Lost:
    """File systems of which some hang until they are released."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths
        self.released = threading.Event()
        self.asked: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        self.threads.add(threading.get_ident())
        if path in self.paths:
            self.released.wait()
        return room()


def lines(*paths: str) -> list[str]:
    return [f"30 20 8:{index} / {path} rw - ext4 /dev/vd{index} rw" for index, path in enumerate(paths)]


async def test_file_systems_that_hang_are_asked_once_until_they_answer(machine: MakeMachine) -> None:
    """They cost their own figures and one second, once, however many hang; when they answer they are back."""
    leaks = Leaks()
    lost = Lost("/a", "/c")
    paths = ("/", "/a", "/b", "/c", "/d")
    host = machine(statvfs=lost)
    host.mount(*lines(*paths))
    attempts = [await host.attempt() for _ in range(3)]
    for attempt in attempts:
        assert attempt.ok
        assert [labels[0] for labels in values(attempt, "host_filesystem_size_bytes")] == ["/", "/b", "/d"]
        assert attempt.reading.parts[1].problem == "/a does not answer; /c does not answer"
    assert [lost.asked.count(path) for path in paths] == [3, 1, 3, 1, 3]
    lost.released.set()
    while attempt.reading.parts[1].problem:
        attempts.append(attempt := await host.attempt())
    assert [labels[0] for labels in values(attempt, "host_filesystem_size_bytes")] == list(paths)
    await host.close()
    assert await leaks.found() == {}
    assert lost.asked.count("/b") == len(attempts)  # the thread that hung asks nobody else when it wakes


async def test_file_systems_that_answer_share_a_thread(machine: MakeMachine) -> None:
    """A check costs one thread, not one a file system."""
    started: list[int] = []

    def statvfs(_: str) -> os.statvfs_result:
        started.append(threading.get_native_id())
        return room()

    host = machine(statvfs=statvfs)
    host.mount(*lines("/", *(f"/mnt/{number}" for number in range(20))))
    await host.attempt()
    assert (len(started), len(set(started))) == (21, 1)


async def test_a_host_that_is_no_longer_watched_waits_for_no_file_system(machine: MakeMachine) -> None:
    """Closing gives up the question; the thread that asks ends when it ends."""
    lost = Lost("/")
    host = machine(statvfs=lost)
    await host.attempt()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert len(tasks) == 1
    await host.close()
    await asyncio.wait(tasks, timeout=1)
    assert [task.cancelled() for task in tasks] == [True]
    lost.released.set()


async def test_figures_are_those_of_this_machine(watch: Watch) -> None:
    """By way of the configuration's target, on the kernel that runs the test."""
    attempt = await watch(Host(("/",))).attempt()
    space = shutil.disk_usage("/")
    assert list(values(attempt, "host_filesystem_size_bytes").values()) == [space.total]
    assert list(values(attempt, "host_filesystem_avail_bytes").values()) == [pytest.approx(space.free, rel=0.05)]
    assert [value(attempt, f"host_load{minutes}") for minutes in (1, 5, 15)] == pytest.approx(os.getloadavg(), abs=0.5)
    assert {"system", "filesystems", "network"} <= {name for name, read in collectors(attempt).items() if read}
