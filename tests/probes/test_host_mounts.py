"""Which file systems count, and how the table of mounts is read."""

from __future__ import annotations

import pytest

from auraconnect_exporter.probes.mounts import MAX_FILESYSTEMS, MAX_LABEL, Mount, mount_table, mounts_to_watch


def test_the_kernels_table_is_read() -> None:
    """With optional fields or none, blanks as octal numbers, bytes of any kind, read-only by mount or file system."""
    text = b"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
40 27 254:16 /data /mnt/my\\040disk\\134x ro,relatime - xfs /dev/vdb rw
41 27 254:32 / /mnt/\xff rw,relatime - ext4 /dev/vdc ro,errors=remount-ro
"""
    assert mount_table(text) == [
        Mount("/proc", "proc", "proc"),
        Mount("/", "ext4", "/dev/vda"),
        Mount("/mnt/my disk\\x", "xfs", "/dev/vdb", read_only=True, root="/data"),
        Mount("/mnt/\udcff", "ext4", "/dev/vdc", read_only=True),
    ]


@pytest.mark.parametrize("line", [b"", b"27 1 254:0 / / rw", b"27 1 254:0 / / rw - ext4", b"1 2 3 4 5 6 7 8 9"])
def test_a_table_of_another_form_is_refused(line: bytes) -> None:
    """Better no file systems than wrong ones."""
    with pytest.raises(ValueError, match="a line that is no mount"):
        mount_table(b"22 27 0:21 / /proc rw,relatime - proc proc rw\n" + line + b"\n")


def test_a_mount_point_is_fit_for_a_label() -> None:
    """Bytes that are no text, line ends and endless names come out short and printable."""
    assert Mount("/mnt/\udcff\n", "ext4", "/dev/vdc").label == "/mnt/??"
    assert len(Mount("/" + "x" * 4000, "ext4", "/dev/vdc").label) == MAX_LABEL


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
        Mount("/home/user/mine", "fuse.sshfs", "/dev/sda"),
        Mount("/mnt/windows", "fuseblk", "/dev/sdc1"),
    ]
    assert paths(table) == ["/", "/home", "/mnt/windows"]


def test_a_pool_counts_once() -> None:
    """All of a ZFS pool fill up together, and none of them is a device."""
    table = [
        Mount("/", "zfs", "rpool/ROOT/debian"),
        Mount("/srv", "zfs", "tank/srv"),
        Mount("/srv/www", "zfs", "tank/www"),
    ]
    assert paths(table) == ["/", "/srv"]


def test_a_file_system_that_has_become_read_only_still_counts() -> None:
    """A disk that fails must not disappear; one that never was written to is not missed."""
    table = [Mount("/data", "ext4", "/dev/vdb", read_only=True), Mount("/disc", "ext4", "/dev/vdc", read_only=True)]
    assert mounts_to_watch(table, (), known={"/data"}) == [table[0]]


def test_two_mounts_never_share_a_label() -> None:
    """The same series twice would cost the whole scrape."""
    table = [Mount("/" + "x" * 200 + end, "ext4", f"/dev/vd{end}") for end in "ab"]
    assert mounts_to_watch(table, ()) == mounts_to_watch(table, tuple(mount.mountpoint for mount in table)) == table[:1]


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
    """Any kind of file system, in the order asked; a folder that nothing is mounted on is none."""
    table = [Mount("/", "ext4", "/dev/vda1"), Mount("/run", "tmpfs", "tmpfs")]
    assert mounts_to_watch(table, ("/run", "/gone", "/")) == [table[1], table[0]]


def test_file_systems_are_limited_in_number() -> None:
    """A machine full of containers does not fill the metrics."""
    table = [Mount(f"/mnt/{number:03}", "ext4", f"/dev/sd{number}") for number in range(2 * MAX_FILESYSTEMS)]
    assert len(paths(table)) == MAX_FILESYSTEMS
