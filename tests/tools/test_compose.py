"""What docker-compose.yml starts is derived from this repository's files, pinned, and open to this machine alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import compose
from tools.bootstrap import ROOT
from tools.programs import program

FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = FILE["services"]
OURS = ("exporter", "configure", "pages", "prometheus", "alertmanager", "grafana")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the folder that `configure` has written to, from this repository."""
    token = tmp_path / "incident-log-token"
    token.write_text("auc_x\n")
    compose.configure(ROOT, tmp_path, token, ["demo-api:8000"])
    return tmp_path


def test_prometheus_takes_its_configuration_and_finds_everybody(config: Path) -> None:
    """By the names that containers have for each other, the API's own metrics too, and with every rule."""
    checked = subprocess.run(
        [program("promtool"), "check", "config", config / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    written = yaml.safe_load((config / "prometheus.yml").read_text())
    static = [each for job in written["scrape_configs"] for each in job.get("static_configs", [])]
    targets = {target for each in static for target in each["targets"]}
    assert targets == {"exporter:9850", "prometheus:9090", "alertmanager:9093", "demo-api:8000"}
    assert written["alerting"]["alertmanagers"][0]["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert written["rule_files"] == [f"{ROOT}/prometheus/../rules/*.yml", f"{ROOT}/prometheus/../rules/alerts/*.yml"]


def test_alertmanager_takes_its_configuration(config: Path) -> None:
    """Channels without a secret lead to the container that shows pages, and the incident log has its token."""
    checked = subprocess.run(
        [program("amtool"), "check-config", config / "alertmanager.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    text = (config / "alertmanager.yml").read_text()
    assert "http://pages:8080/oncall-engineer-page?channel=PagerDuty" in text
    assert "localhost" not in text.replace("http://localhost:9850/", "")
    hooks = [hook for each in yaml.safe_load(text)["receivers"] for hook in each.get("webhook_configs", [])]
    logs = [hook["http_config"]["authorization"] for hook in hooks if "exporter:9850" in str(hook.get("url"))]
    assert {each["credentials_file"] for each in logs} == {str(config / "incident-log-token")}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_as_new_as_it_happens_to_be(name: str) -> None:
    """Each image is one that is built here, or has a version."""
    image = SERVICES[name]["image"]
    assert image in {"auraconnect-exporter", "auraconnect-tools", "auraconnect-demo"} or re.search(r":v?\d", image)


@pytest.mark.parametrize("name", OURS)
def test_what_runs_in_production_has_no_rights(name: str) -> None:
    """No writing outside its volumes, no capabilities, no way to get more."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_demo_starts_only_where_it_is_asked_for() -> None:
    """Its services are of the profile, which the file with its settings names."""
    assert {name for name, service in SERVICES.items() if service.get("profiles") != ["demo"]} == set(OURS)
    assert "COMPOSE_PROFILES=demo\n" in (ROOT / "demo/docker.env").read_text()


def test_what_is_mounted_is_there() -> None:
    """A folder that is missing would be made by Docker, empty and root's."""
    sources = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    folders = {source for source in sources if source.startswith("./")} - {"./build/demo/faults"}
    assert [folder for folder in sorted(folders) if not (ROOT / folder).is_dir()] == []
    assert {source for source in sources if not source.startswith("./")} == set(FILE["volumes"])
