"""The benchmark of the rules: what it makes up, and how it sums up."""

from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.rules import Cost, Size, Usage, api_metrics, configuration, exporter_metrics, report
from tests.pack.files import rules
from tools.promql import Selector, parse, walk

SIZE = Size(services=2, endpoints=6, targets=5)


def samples() -> list[tuple[str, dict[str, str], float]]:
    """Return name, labels and value of everything that is made up, at one moment."""
    text = "\n".join([*exporter_metrics(SIZE, 1000.0), *api_metrics(SIZE, 1000.0), ""])
    return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]


def test_a_system_of_the_given_size_is_made_up() -> None:
    """So many targets, services and endpoints, and each histogram's last bucket holds all of its requests."""
    made = samples()
    assert len({labels["target"] for name, labels, _ in made if name == "auraconnect_component_up"}) == 5
    requests = [labels for name, labels, _ in made if name == "http_requests_total"]
    assert len({(labels["service"], labels["handler"]) for labels in requests}) == 6
    whole = {(name, labels.get("le")): value for name, labels, value in made if labels.get("service") == "s0"}
    highr = "http_request_duration_highr_seconds"
    assert whole[f"{highr}_bucket", "+Inf"] == whole[f"{highr}_count", None] == 3 * 500


def test_only_metrics_that_rules_read_are_made_up_for_them() -> None:
    """Nothing is measured by a name that no rule knows, but for what comes along, some of it for the texts alone."""
    read = {node.name for rule in rules() for node in walk(parse(rule["expr"])) if isinstance(node, Selector)}
    unread = {name for name, _, _ in samples()} - read
    assert unread == {
        "auraconnect_component_probe_duration_seconds",
        "auraconnect_component_probe_last_success_timestamp_seconds",
        "auraconnect_component_probes_total",
    }


def test_shares_add_up() -> None:
    """A group that takes 10 ms of every 5 s and one of 30 ms in 15 s are four thousandths of a core."""
    found = [Cost("a", 0.010, 5), Cost("b", 0.030, 15)]
    text = report(Usage(12, 10.2, 360), found, SIZE, 99)
    assert "| a | 5 | 10.0 | 0.200% |" in text
    assert "| all | | | 0.400% |" in text
    assert "2 services, 6 endpoints, 5 targets, 99 series" in text


def test_the_rules_cost_what_a_prometheus_without_them_does_not_use() -> None:
    """Of two that ran for six minutes, one used 12 s and the one without rules 10.2 s: half a percent of a core."""
    used = Usage(with_rules=12, without=10.2, elapsed=360)
    assert round(used.share, 6) == 0.005
    assert "**0.50% of one core** in processor time (3.33% with the rules, 2.83% without)" in report(used, [], SIZE, 99)


def test_only_one_of_the_two_has_rules(tmp_path: Path) -> None:
    """Both configurations scrape the same, and differ in their own address and the rules."""
    files = [
        yaml.safe_load(configuration(tmp_path / name, "a:1", 2, rules).read_text())
        for name, rules in (("with", [Path("rules/*.yml")]), ("without", []))
    ]
    assert [file.pop("rule_files") for file in files] == [["rules/*.yml"], []]
    assert files[0] == files[1]
    assert len(files[0]["scrape_configs"]) == 3
