"""The host's figures against those of others: node exporter at the same moment, and a mount that really hangs."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from auraconnect_exporter.probes.host import HostProbe
from auraconnect_exporter.targets import Host
from tests.probes.support import Watched, values
from tools.servers import Server, free_port, program

ROOT = Path(__file__).parents[2]


class NodeExporter(Server):
    """The distribution's node exporter, which leaves no file system out."""

    def __init__(self, folder: Path) -> None:
        self._address = f"127.0.0.1:{free_port()}"
        arguments = (f"--web.listen-address={self._address}", "--collector.filesystem.fs-types-exclude=^none$")
        super().__init__("node-exporter", [program("node-exporter"), *arguments], folder / "node-exporter.log")

    def scrape(self) -> str:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        try:
            return bool(self.scrape())
        except (OSError, http.client.HTTPException):
            return False


# What ours is called there, and how much may pass between two readings.
SAME = {
    "host_memory_total_bytes": ("node_memory_MemTotal_bytes", 0),
    "host_memory_available_bytes": ("node_memory_MemAvailable_bytes", 1e9),
    "host_swap_total_bytes": ("node_memory_SwapTotal_bytes", 0),
    "host_swap_free_bytes": ("node_memory_SwapFree_bytes", 64e6),
    "host_load1": ("node_load1", 2),
    "host_load5": ("node_load5", 1),
    "host_load15": ("node_load15", 1),
    "host_file_descriptors_allocated": ("node_filefd_allocated", 5000),
    "host_file_descriptors_maximum": ("node_filefd_maximum", 0),
    "host_filesystem_size_bytes": ("node_filesystem_size_bytes", 0),
    "host_filesystem_avail_bytes": ("node_filesystem_avail_bytes", 4e9),
    "host_filesystem_files": ("node_filesystem_files", 1e6),
    "host_network_receive_bytes_total": ("node_network_receive_bytes_total", 64e6),
    "host_network_transmit_bytes_total": ("node_network_transmit_bytes_total", 64e6),
    "host_network_receive_errors_total": ("node_network_receive_errs_total", 100),
    "host_network_transmit_errors_total": ("node_network_transmit_errs_total", 100),
    "host_pressure_waiting_seconds_total": ("node_pressure_{}_waiting_seconds_total", 10),
    "host_pressure_stalled_seconds_total": ("node_pressure_{}_stalled_seconds_total", 10),
}


async def test_figures_are_those_of_node_exporter(tmp_path: Path) -> None:
    """At the same moment both say the same of the machine, within what moves while one and then the other is asked."""
    # Node exporter knows nothing of a container's limits, so here there are none.
    (tmp_path / "proc").symlink_to("/proc")
    watched = Watched(lambda: HostProbe(Host(), 2.0, time.monotonic, tmp_path), 2.0)
    with NodeExporter(tmp_path) as node:
        text = node.scrape()
        attempt = await watched.attempt()
    theirs: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = sample.labels.get("mountpoint") or sample.labels.get("device", "")
            theirs[sample.name][label] = sample.value
    compared = set()
    for ours, (name, moved) in SAME.items():
        for labels, value in values(attempt, ours).items():
            their_name, label = (name.format(*labels), "") if "{}" in name else (name, "".join(labels[:1]))
            if "cpu_stalled" in their_name:
                continue  # of a whole machine that means nothing, so they leave it out
            assert value == pytest.approx(theirs[their_name][label], abs=moved), their_name
            compared.add(ours)
    by_chance = {name for name in SAME if "network" in name or "pressure" in name or name == "host_filesystem_files"}
    assert compared >= SAME.keys() - by_chance  # which a machine may not have


def test_a_mount_that_never_answers_is_set_aside(tmp_path: Path) -> None:
    """In a mount namespace of its own: a file system whose server is silent, and then gone."""
    lost = tmp_path / "lost"
    lost.mkdir()
    namespace = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
    script = Path(__file__).with_name("lost_mount.py")
    command: tuple[str | Path, ...] = (sys.executable, script, lost, tmp_path / "stand-in")
    if subprocess.run((*namespace, "true"), check=False, capture_output=True).returncode == 0:
        command = (*namespace, *command, "namespace")
    else:
        command = (*command, "none")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "exporter", ROOT)))}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    silent, again, gone, unmounted = json.loads(run.stdout)
    assert silent["measured"] == again["measured"] == gone["measured"] == unmounted["measured"] == ["/"]
    assert silent["problem"] == again["problem"] == f"{lost} does not answer"
    assert gone["problem"] == f"{lost}: Transport endpoint is not connected"
    assert unmounted["problem"] == f"{lost} is not mounted"
    assert silent["seconds"] < 1.5
    assert again["seconds"] < 0.5
