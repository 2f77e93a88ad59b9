"""Mounts a file system whose server never answers, watches it with the host probe, and prints what that says.

Run in a mount namespace of its own, as its root: nothing of it is left when it ends. Where a machine allows no such
namespace or no FUSE, a table of mounts that names one and a call that hangs stand in for it. Arguments: the folder to
mount on, one for the stand-in's files, and ``namespace`` or ``none``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from auraconnect_exporter.model import Part
from auraconnect_exporter.probes.host import HostProbe
from auraconnect_exporter.targets import Host

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2


class Fuse:
    """A FUSE file system. Raises OSError where none can be mounted."""

    root = Path("/")
    statvfs = staticmethod(os.statvfs)

    def __init__(self, folder: str) -> None:
        self._folder = os.fsencode(folder)
        self._server = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._server},rootmode=40000,user_id=0,group_id=0"
        if LIBC.mount(b"lost", self._folder, b"fuse.lost", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "no FUSE file system can be mounted")

    def lose_server(self) -> None:
        """Let every call fail from now on."""
        os.close(self._server)

    def unmount(self) -> None:
        """Leave the folder below it."""
        LIBC.umount2(self._folder, MNT_DETACH)


class StandIn:
    """What the probe sees of such a file system."""

    def __init__(self, folder: str, root: Path) -> None:
        self.root = root
        self._folder = folder
        self._gone = threading.Event()
        self._table = root / "proc/self/mountinfo"
        self._table.parent.mkdir(parents=True)
        self._mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        self._table.write_text(f"{self._mounts}900 1 0:99 / {folder} rw - fuse.lost lost rw\n", encoding="utf-8")

    def statvfs(self, path: str) -> os.statvfs_result:
        """Hang as FUSE does."""
        if path != self._folder:
            return os.statvfs(path)
        self._gone.wait()
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def lose_server(self) -> None:
        """Let every call fail from now on."""
        self._gone.set()

    def unmount(self) -> None:
        """Leave the folder below it."""
        self._table.write_text(self._mounts, encoding="utf-8")


def mount(folder: str, spare: Path, *, namespace: bool) -> Fuse | StandIn:
    """Mount the real one where that is possible."""
    if namespace:
        with contextlib.suppress(OSError):
            return Fuse(folder)
    return StandIn(folder, spare)


async def look(probe: HostProbe) -> dict[str, Any]:
    """Return what a check says of the file systems, and how long it took."""
    begun = time.monotonic()
    part: Part = (await probe.check()).parts[1]
    measured = {sample.label_values[0] for sample in part.samples}
    return {"measured": sorted(measured), "problem": part.problem, "seconds": time.monotonic() - begun}


async def main(folder: str, spare: str, namespace: str) -> None:
    """Let the server be silent, then gone, then unmount."""
    lost = mount(folder, Path(spare), namespace=namespace == "namespace")
    probe = HostProbe(Host(("/", folder)), 2.0, time.monotonic, lost.root, lost.statvfs)
    said = [await look(probe), await look(probe)]
    lost.lose_server()
    while (now := await look(probe))["problem"] == said[0]["problem"]:
        await asyncio.sleep(0.01)
    said.append(now)
    lost.unmount()
    said.append(await look(probe))
    await probe.close()
    sys.stdout.write(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))
