"""Which file systems are mounted, and which of them are watched. Pure functions.

Source: /proc/self/mountinfo (proc(5)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

MAX_FILESYSTEMS: Final = 100
MAX_LABEL: Final = 100

# Images that are mounted read-only are full by nature.
_FULL_BY_NATURE: Final = frozenset({"cramfs", "erofs", "iso9660", "squashfs", "udf"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system, and where which part of it is mounted."""

    mountpoint: str
    """As the operating system wants it: bytes that are no UTF-8 are surrogates."""
    fstype: str
    device: str
    read_only: bool = False
    root: str = "/"

    @property
    def label(self) -> str:
        """The mount point as people and Prometheus can take it."""
        text = "".join(character if character.isprintable() else "?" for character in self.mountpoint)
        return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"


def mount_table(mountinfo: bytes) -> list[Mount]:
    """Read /proc/self/mountinfo. Raises ValueError for text that has no such form.

    A line is: id, parent, device number, root, mount point, options, optional fields, a dash, type, source, options of
    the file system. Either options may say that it is read-only.
    """
    table = []
    for line in mountinfo.splitlines():
        fields = line.split(b" ")
        try:
            dash = fields.index(b"-", 6)
            fstype, device, options = fields[dash + 1 : dash + 4]
        except ValueError:
            raise ValueError("/proc/self/mountinfo has a line that is no mount") from None
        read_only = b"ro" in (*fields[5].split(b","), *options.split(b","))
        table.append(Mount(_path(fields[4]), os.fsdecode(fstype), _path(device), read_only, _path(fields[3])))
    return table


def _path(field: bytes) -> str:
    """Return what a field says, in which the kernel writes blanks and backslashes as octal numbers."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), field))


def mounts_to_watch(
    table: Iterable[Mount], wanted: tuple[str, ...], known: Container[str] = frozenset()
) -> list[Mount]:
    """Return the mounts that were asked for and are there, else every local one that can fill up.

    A device that is mounted in several places counts once, at its shortest path. ``/`` always counts, also where it is
    a container's overlay. ``known`` are mount points that have been written to: one that is read-only now still counts.
    """
    topmost = {mount.mountpoint: mount for mount in table}  # a later mount hides an earlier one
    if wanted:
        chosen = [topmost[path] for path in wanted if path in topmost]
    else:
        devices: dict[str, Mount] = {}
        for mount in sorted(topmost.values(), key=lambda mount: (len(mount.mountpoint), mount.mountpoint)):
            writable = not mount.read_only or mount.mountpoint in known
            if mount.mountpoint == "/" or (_is_local(mount) and writable):
                devices.setdefault(_device(mount), mount)
        chosen = list(devices.values())
    labelled: dict[str, Mount] = {}
    for mount in chosen:
        labelled.setdefault(mount.label, mount)
    return list(labelled.values())[:MAX_FILESYSTEMS]


def _is_local(mount: Mount) -> bool:
    # Whoever mounts something of his own with FUSE may name any device. What the kernel mounts through it is `fuseblk`.
    device = mount.device.startswith("/dev/") and not mount.fstype.startswith("fuse.")
    return (device or mount.fstype == "zfs") and mount.fstype not in _FULL_BY_NATURE


def _device(mount: Mount) -> str:
    """Return what mounts that fill up together have in common: the device, or of ZFS the pool."""
    return mount.device.split("/")[0] if mount.fstype == "zfs" else mount.device
