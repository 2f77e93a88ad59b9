"""Host: processor, memory, disks, pressure, network; of a container, within its limits."""

from typing import Final

from tools.boards.model import Board, Graph, Query, Row
from tools.boards.queries import limit, state, targets_of

_CHOSEN: Final = '{target=~"$target"}'
_WRITABLE: Final = '{target=~"$target", fstype!~"squashfs|iso9660|erofs|udf"}'


def _highest(metric: str, labels: str = "target") -> str:
    return f"max by ({labels}) (auraconnect_host_{metric}{_CHOSEN})"


def _rate(metric: str, labels: str) -> str:
    return f"max by ({labels}) (rate(auraconnect_host_{metric}{_CHOSEN}[$__rate_interval]))"


PROCESSOR: Final = (
    Graph(
        title="Processor",
        description="The share of processor time in use; of a container, of what it may use.",
        unit="percentunit",
        highest=1,
        queries=(Query(_highest("cpu_usage_ratio"), "{{target}}"),),
    ),
    Graph(
        title="Load",
        description="How many tasks run or wait for the processor or a disk, on average of 1, 5 and 15 minutes. More "
        "than there are processors means that they wait.",
        unit="none",
        queries=tuple(Query(_highest(f"load{minutes}"), f"{{{{target}}}}: {minutes} min") for minutes in (1, 5, 15)),
    ),
    Graph(
        title="Pressure",
        description="The share of time in which some tasks waited for a resource, and in which all did and nothing "
        "went on. No lines: the kernel keeps no account of it.",
        unit="percentunit",
        queries=(
            Query(_rate("pressure_waiting_seconds_total", "target, resource"), "{{target}} {{resource}}: some wait"),
            Query(_rate("pressure_stalled_seconds_total", "target, resource"), "{{target}} {{resource}}: all wait"),
        ),
    ),
)

MEMORY: Final = (
    Graph(
        title="Memory in use",
        description="The share of memory that can't be had any more without swapping. When it is full, the kernel "
        "kills what takes most.",
        unit="percentunit",
        runbooks=("MemoryUsageHigh",),
        highest=1,
        queries=(
            Query(f"target:auraconnect_host_memory_usage:ratio{_CHOSEN}", "{{target}}"),
            limit("auraconnect:memory_usage_ratio:threshold", "warning"),
        ),
    ),
    Graph(
        title="Memory",
        description="The machine's memory, or a container's limit, and what is still available of it.",
        unit="bytes",
        queries=(
            Query(f"min by (target) (auraconnect_host_memory_available_bytes{_CHOSEN})", "{{target}}: available"),
            Query(_highest("memory_total_bytes"), "{{target}}: total"),
        ),
    ),
    Graph(
        title="Swap in use",
        description="What has been moved from memory to disk. Some is nothing; what grows makes all slow.",
        unit="bytes",
        queries=(Query(f"{_highest('swap_total_bytes')} - {_highest('swap_free_bytes')}", "{{target}}"),),
    ),
)

DISKS: Final = (
    Graph(
        title="Disks in use",
        description="The share of each file system in use. A full one stops databases and loses logs.",
        unit="percentunit",
        runbooks=("DiskUsageHigh",),
        width=6,
        highest=1,
        queries=(
            Query(f"target_mountpoint:auraconnect_host_filesystem_usage:ratio{_CHOSEN}", "{{target}} {{mountpoint}}"),
            limit("auraconnect:disk_usage_ratio:threshold", "warning"),
        ),
    ),
    Graph(
        title="Space left",
        description="What an ordinary user can still write to each file system.",
        unit="bytes",
        width=6,
        queries=(
            Query(
                f"min by (target, mountpoint) (auraconnect_host_filesystem_avail_bytes{_WRITABLE})",
                "{{target}} {{mountpoint}}",
            ),
        ),
    ),
    Graph(
        title="Disks in a day",
        description="Where each file system will be if the last six hours go on: the limit is a full one.",
        unit="percentunit",
        runbooks=("DiskFillingUp",),
        width=6,
        highest=1,
        queries=(
            Query(
                f"predict_linear(target_mountpoint:auraconnect_host_filesystem_usage:ratio{_CHOSEN}[6h], "
                'scalar(auraconnect:disk_full_within_seconds:threshold{severity="warning"}))',
                "{{target}} {{mountpoint}}",
            ),
            Query("vector(1)", "full", limit="warning"),
        ),
    ),
    Graph(
        title="Inodes in use",
        description="The share of files that a file system can hold. With none left nothing can be created, whatever "
        "space there is.",
        unit="percentunit",
        width=6,
        highest=1,
        queries=(
            Query(
                f"max by (target, mountpoint) (1 - auraconnect_host_filesystem_files_free{_WRITABLE}"
                f" / (auraconnect_host_filesystem_files{_WRITABLE} > 0))",
                "{{target}} {{mountpoint}}",
            ),
        ),
    ),
)

REST: Final = (
    Graph(
        title="Network",
        description="Bytes per second that each device has received and sent.",
        unit="Bps",
        queries=(
            Query(_rate("network_receive_bytes_total", "target, device"), "{{target}} {{device}}: received"),
            Query(_rate("network_transmit_bytes_total", "target, device"), "{{target}} {{device}}: sent"),
        ),
    ),
    Graph(
        title="Network errors",
        description="Packets per second that could not be received or sent. Anything but zero is a broken link or "
        "driver.",
        unit="pps",
        queries=(
            Query(_rate("network_receive_errors_total", "target, device"), "{{target}} {{device}}: receiving"),
            Query(_rate("network_transmit_errors_total", "target, device"), "{{target}} {{device}}: sending"),
        ),
    ),
    Graph(
        title="Open files",
        description="Files that are open in the whole system, and their share of those that may be.",
        unit="short",
        queries=(
            Query(_highest("file_descriptors_allocated"), "{{target}}: open"),
            Query(
                f"{_highest('file_descriptors_allocated')} / {_highest('file_descriptors_maximum')}",
                "{{target}}: share",
                unit="percentunit",
            ),
        ),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-host",
    title="AuraConnect · Host",
    description="The machine that the exporter runs on, or the container's share of it: what is nearly full, and who "
    "waits.",
    variables=(targets_of("host"),),
    rows=(
        Row("Is it well?", state("host")),
        Row("Disks", DISKS),
        Row("Memory", MEMORY),
        Row("Processor", PROCESSOR),
        Row("Network and files", REST),
    ),
)
