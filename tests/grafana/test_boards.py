"""The committed boards without Grafana: what they are made of, and that each says what it shows."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from auraconnect_exporter.escalation import ROLES
from auraconnect_exporter.model import Component
from tests.grafana import schema
from tests.grafana.boards import FOLDER, PROVISIONING, Json, Question, boards, every_panel, panels, questions
from tests.pack.files import RUNBOOKS, alert_names, rules
from tests.pack.test_lint import INSTRUMENTATOR, SERVERS
from tests.scrape import declared
from tools.boards.files import contents, write
from tools.boards.model import Graph, Query, Row, places
from tools.promql import Binary, Call, Number, Selector, Window, parse, walk
from tools.servers import program

# They stand in bookmarks, and in links of other people's boards.
UIDS = {
    "auraconnect-api",
    "auraconnect-database",
    "auraconnect-host",
    "auraconnect-overview",
    "auraconnect-pipeline",
    "auraconnect-redis",
    "auraconnect-response",
    "auraconnect-workers",
}

# What only boards read of Prometheus, Alertmanager and every Python process.
MEASURED_OF_THEMSELVES = {
    "alertmanager_config_last_reload_success_timestamp_seconds",
    "alertmanager_notifications_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "prometheus_config_last_reload_success_timestamp_seconds",
    "prometheus_rule_group_interval_seconds",
    "prometheus_rule_group_last_duration_seconds",
}

each_board = pytest.mark.parametrize(("uid", "board"), boards().items(), ids=boards())


def test_the_committed_boards_are_those_that_python_describes() -> None:
    """Whoever changes tools/boards runs `make boards`; whoever changes the JSON is told where to change it."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert committed.keys() == contents().keys()
    for name, content in contents().items():
        assert committed[name] == content, f"{name} is not what tools/boards makes; run `make boards`."


def test_writing_removes_boards_that_are_no_more(tmp_path: Path) -> None:
    """A board that left Python leaves the folder, too; other files stay."""
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("kept", encoding="utf-8")
    written = write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*contents(), "notes.txt"}
    assert sorted(path.name for path in written) == sorted(contents())


@each_board
def test_grafana_reads_each_field(uid: str, board: Json) -> None:
    """A board has no field and no word that Grafana would pass over, and cannot be changed by hand."""
    read = schema.check((FOLDER / f"{uid}.json").read_text(encoding="utf-8"))
    assert read.uid == uid
    assert not board["editable"]
    assert re.fullmatch(r"[a-z0-9-]{8,40}", uid)


def test_the_uids_are_those_that_people_have_in_bookmarks() -> None:
    """A uid is for ever; titles are told apart as well."""
    assert boards().keys() == UIDS
    assert len({board["title"] for board in boards().values()}) == len(UIDS)


@each_board
def test_a_board_is_not_overloaded(uid: str, board: Json) -> None:
    """8 to 16 panels, each with a title of its own, in rows with headings; the first panel says how it is now."""
    titles = [panel["title"] for panel in panels(board)]
    assert 8 <= len(titles) <= 16, (uid, len(titles))
    assert len(set(titles)) == len(titles)
    assert board["panels"][0]["type"] == "row"
    assert board["panels"][1]["type"] == "stat"


@each_board
def test_the_grid_has_no_overlap_and_no_hole(uid: str, board: Json) -> None:
    """Each cell down to the last line belongs to exactly one panel or heading."""
    cells: Counter[tuple[int, int]] = Counter()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))
    depth = max(y for _, y in cells) + 1
    assert cells == Counter({(x, y): 1 for x in range(24) for y in range(depth)}), uid
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize(
    "sizes", [[(20, 7), (8, 7)], [(12, 7), (12, 8)], [(12, 7)]], ids=["too wide", "two heights", "not full"]
)
def test_a_line_that_does_not_fit_is_refused(sizes: list[tuple[int, int]]) -> None:
    """A line has 24 columns and one height."""
    line = tuple(
        Graph(title="T", description="D.", unit="s", queries=(Query("up", "l"),), width=width, height=height)
        for width, height in sizes
    )
    with pytest.raises(ValueError, match=r"too wide|not full"):
        places((Row("R", line),))


@each_board
def test_a_panel_says_what_it_shows(uid: str, board: Json) -> None:
    """Title, unit, a description of whole sentences; names in legends, not label soup."""
    for panel in panels(board):
        where = f"{uid}: {panel['title']}"
        assert panel["title"].strip(), where
        assert re.fullmatch(r"[A-Z].{25,}[.)?]", panel["description"]), panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["noValue"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert "__auto" not in legends
        assert all(legends), where


@each_board
def test_what_is_old_does_not_look_like_now(uid: str, board: Json) -> None:
    """Single values are asked for this moment; lines have gaps; a state that is not known says so."""
    for panel in panels(board):
        where = f"{uid}: {panel['title']}"
        defaults = panel["fieldConfig"]["defaults"]
        now = panel["type"] in {"stat", "bargauge", "table"}
        assert all(target["instant"] is now and target["range"] is not now for target in panel["targets"]), where
        if panel["type"] in {"timeseries", "state-timeline"}:
            assert defaults["custom"]["spanNulls"] is False
        if mappings := defaults.get("mappings"):
            assert mappings[-1]["options"]["result"]["text"] == defaults["noValue"] in {"unknown", "nobody watches"}
            words = [meaning["text"] for mapping in mappings[:-1] for meaning in mapping["options"].values()]
            assert len(set(words)) == len(words) > 0
            # The colour of whatever is none of the states.
            assert defaults["color"]["fixedColor"] == mappings[-1]["options"]["result"]["color"]


@each_board
def test_boards_have_no_limits_of_their_own(uid: str, board: Json) -> None:
    """Limits are series that the rules record: no threshold in a panel, no comparison with a number but 0."""
    for panel in panels(board):
        where = f"{uid}: {panel['title']}"
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        assert [step["value"] for step in steps] == [None] * len(steps), where
        for target in panel["targets"]:
            for node in walk(parse(Question(where, target["expr"]).sent({}))):
                if isinstance(node, Binary) and node.operator.text in {">", "<", ">=", "<="}:
                    numbers = [side.value for side in (node.left, node.right) if isinstance(side, Number)]
                    assert numbers == [0] * len(numbers), where


def test_limits_are_those_of_the_rules() -> None:
    """Every recorded limit that a board draws is one that the rules record, with its severity."""
    recorded = set()
    for rule in rules():
        if re.fullmatch(r"auraconnect:\w+:(threshold|seconds)", rule.get("record", "")):
            recorded.add((rule["record"], frozenset(rule["labels"].items())))
    drawn = set()
    for question in questions():
        for node in walk(parse(question.sent({}))):
            if isinstance(node, Selector) and re.fullmatch(r"auraconnect:\w+:(threshold|seconds)", node.name):
                labels = frozenset((matcher.label, matcher.value.value) for matcher in node.matchers)
                assert [known for name, known in recorded if name == node.name and labels <= known], question
                drawn.add(node.name)
    assert len(drawn) > 15


def test_rates_span_enough_scrapes() -> None:
    """A rate looks back as far as Grafana says is enough, or over all that is shown."""
    windows = {"__rate_interval": "1234s", "__range": "5678s"}
    rates = [
        (question.where, node.arguments[0])
        for question in questions()
        for node in walk(parse(question.sent(windows)))
        if isinstance(node, Call) and node.name in {"rate", "increase", "irate", "delta"}
    ]
    assert rates
    for where, window in rates:
        assert isinstance(window, Window), where
        assert window.range.seconds in {1234, 5678}, where


def test_every_metric_exists() -> None:
    """Boards ask only for what the exporter, the API or the servers export, or the rules record."""
    known = declared().keys() | INSTRUMENTATOR | SERVERS | MEASURED_OF_THEMSELVES
    known |= {rule["record"] for rule in rules() if "record" in rule}
    for question in questions():
        read = {node.name for node in walk(parse(question.sent({}))) if isinstance(node, Selector)}
        missing = {name for name in read - known if re.sub(r"_(bucket|count|sum)$", "", name) not in known}
        assert missing == set(), question.where


def test_every_alert_that_is_named_exists() -> None:
    """An alert that was renamed would leave its panel empty for ever."""
    named = set()
    for question in questions():
        for node in walk(parse(question.sent({}))):
            if isinstance(node, Selector) and node.name.startswith("ALERTS"):
                for matcher in node.matchers:
                    if matcher.label == "alertname":
                        named |= set(matcher.value.value.split("|"))
    assert named
    assert named <= set(alert_names())


@pytest.mark.parametrize("release", ["oldest", "newest"])
def test_prometheus_parses_every_query(tmp_path: Path, release: str) -> None:
    """The oldest Prometheus and the newest take each expression."""
    path = tmp_path / "boards.yml"
    recorded = [
        {"record": f"board:question:{number}", "expr": question.sent({})} for number, question in enumerate(questions())
    ]
    path.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": recorded}]}), encoding="utf-8")
    checked = subprocess.run(
        [program("promtool", release), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@each_board
def test_only_the_chosen_data_source_is_asked(uid: str, board: Json) -> None:
    """No data source is named; every variable that a query uses is there."""
    text = (FOLDER / f"{uid}.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {uid, "${datasource}"}
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert board["templating"]["list"][0]["type"] == "datasource"
    used = set(re.findall(r'=~\\"\$(\w+)\\"', text))
    assert used <= variables
    assert variables - used == {"datasource", "exporter"}


@each_board
def test_links_lead_to_boards_and_pages_that_exist(uid: str, board: Json) -> None:
    """Each board leads to every other, and to the exporter's dashboard and runbooks."""
    urls = [link["url"] for link in board["links"]]
    assert {found for url in urls for found in re.findall(r"^/d/([^?]+)", url)} == UIDS - {uid}
    assert urls[-2:] == ["${exporter:raw}/dashboard", "${exporter:raw}/runbooks/"]
    text = (FOLDER / f"{uid}.json").read_text(encoding="utf-8")
    inside = {found for found in re.findall(r'"/d/([^?"]+)', text) if "$" not in found}
    assert inside == UIDS - {uid}


def test_every_alert_has_a_panel_that_leads_to_its_runbook() -> None:
    """Whoever is paged finds what the alert is about on some board, and from there what to do."""
    urls = {link["url"] for _, panel in every_panel() for link in panel["links"]}
    shown = {url.rpartition("/")[2] for url in urls}
    assert urls == {f"${{exporter:raw}}/runbooks/{name}" for name in shown}
    assert shown <= {path.stem for path in RUNBOOKS}
    assert shown == set(alert_names()), "name it among the `runbooks` of the panel that shows it, in tools/boards"


def test_a_component_leads_to_its_board() -> None:
    """The overview's link by component finds a board for every component that there is."""
    text = (FOLDER / "auraconnect-overview.json").read_text(encoding="utf-8")
    assert "/d/auraconnect-${__field.labels.component}?var-target=${__field.labels.target}&" in text
    assert {f"auraconnect-{component}" for component in Component} <= UIDS


def test_who_is_told_is_told_right() -> None:
    """The description of the table of escalations names the procedure's contacts, in their order."""
    (description,) = {panel["description"] for _, panel in every_panel() if panel["title"].startswith("Who is told")}
    for severity, roles in ROLES.items():
        sentence = next(part for part in description.split(". ") if part.lower().startswith(severity))
        places_of_roles = [sentence.find(role) for role in roles]
        assert -1 < places_of_roles[0] < places_of_roles[1] < places_of_roles[2], sentence


def test_every_board_marks_alerts_and_changes() -> None:
    """Alerts, maintenance and what changed are marks in the graphs of every board."""
    for board in boards().values():
        names = [mark["name"] for mark in board["annotations"]["list"]]
        assert names[:2] == ["Critical alerts", "Warnings"]
        assert {"Maintenance", "API started", "Exporter started", "Configuration read", "Rules changed"} <= set(names)


def test_grafana_finds_data_source_and_boards() -> None:
    """The provisioning names Prometheus as the default, by the environment, and the folder of the boards."""
    sources = yaml.safe_load((PROVISIONING / "datasources/auraconnect.yml").read_text(encoding="utf-8"))["datasources"]
    default: list[dict[str, Any]] = [source for source in sources if source.get("isDefault")]
    assert [(source["type"], source["url"]) for source in default] == [("prometheus", "$PROMETHEUS_URL")]
    scraped = yaml.safe_load((FOLDER.parents[1] / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert default[0]["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/auraconnect.yml").read_text(encoding="utf-8"))["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert not provider["allowUiUpdates"]
