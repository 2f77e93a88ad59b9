"""What a version 2 cgroup allows the exporter's container, taken apart. Pure functions.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst. A limit counts for everything below it, so each cgroup
from the process's own one up to the root of what is mounted is looked at.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from auraconnect_exporter.probes.mounts import Mount


def cgroup_folders(proc_self_cgroup: bytes, mount: Mount) -> list[PurePosixPath]:
    """Return the folders of the cgroups that the process is in, its own one first.

    ``mount`` is where the hierarchy is mounted; a container may see a part of it only. What systemd allows one service
    is no limit of the machine, so a service's own cgroup, which is the exporter's, is left out.
    """
    here = next((line[3:] for line in proc_self_cgroup.splitlines() if line.startswith(b"0::")), None)
    if here is None:
        return []
    top, inside = PurePosixPath(mount.mountpoint), PurePosixPath(here.decode(errors="surrogateescape"))
    if ".." in inside.parts or not inside.is_relative_to(mount.root):
        return [top]  # the process is somewhere outside of what it sees
    inside = inside.relative_to(mount.root)
    folders = [top / part for part in (inside, *inside.parents)]
    return folders[1:] if inside.suffix == ".service" else folders


def memory_limit(memory_max: bytes) -> int | None:
    """Read memory.max: bytes; None when there is no limit. Raises ValueError."""
    return None if memory_max.strip() == b"max" else int(memory_max)


def processors(cpu_max: bytes) -> float | None:
    """Read cpu.max: how many processors' time may be used; None when there is no limit. Raises ValueError."""
    quota, period = cpu_max.split()
    return None if quota == b"max" else int(quota) / int(period)


def counter(text: bytes, name: bytes) -> int:
    """Read one line of a file such as memory.stat or cpu.stat: a name, a blank, a number. Raises ValueError."""
    _, found, rest = (b"\n" + text).partition(b"\n" + name + b" ")
    if not found:
        raise ValueError(f"the cgroup's file has no {name.decode()}")
    return int(rest.split(b"\n", 1)[0])
