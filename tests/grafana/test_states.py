"""What boards show of states when exporters disagree, vanish or never were: asked of Prometheus's own evaluation."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tools.boards.queries import health, or_unknown, system_health
from tools.servers import program

STATES = ("healthy", "degraded", "unhealthy", "unknown")


@dataclass(frozen=True)
class Exporter:
    """One exporter's view of the target database/primary: its state from minute to minute; `-` is no scrape."""

    instance: str
    states: tuple[str, ...]

    def series(self) -> list[dict[str, str]]:
        """Return what Prometheus has of it: a failed scrape ends each series at once."""

        def values(value_of: dict[str, str]) -> str:
            return " ".join(value_of.get(state, "0") if state != "-" else "stale" for state in self.states)

        target = f'component="database", target="primary", instance="{self.instance}"'
        return [
            *(
                {
                    "series": f'auraconnect_component_health{{{target}, state="{state}"}}',
                    "values": values({state: "1"}),
                }
                for state in STATES
            ),
            *(
                {
                    "series": f'auraconnect_system_health{{instance="{self.instance}", state="{state}"}}',
                    "values": values({state: "1"}),
                }
                for state in STATES
            ),
            {
                "series": f"auraconnect_component_critical{{{target}}}",
                "values": values(dict.fromkeys(STATES, "1")),
            },
        ]


def evaluates(folder: Path, exporters: list[Exporter], expression: str, samples: list[dict[str, object]]) -> None:
    """Assert that at the last minute an expression has these samples, with promtool."""
    minutes = max((len(exporter.states) for exporter in exporters), default=1) - 1
    case = {
        "interval": "1m",
        "input_series": [one for exporter in exporters for one in exporter.series()],
        "promql_expr_test": [{"expr": expression, "eval_time": f"{minutes}m", "exp_samples": samples}],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}), encoding="utf-8")
    done = subprocess.run([program("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("exporters", "shown"),
    [
        ([Exporter("a", ("healthy", "healthy"))], 1),
        ([Exporter("a", ("healthy", "degraded"))], 2),
        ([Exporter("a", ("healthy", "unhealthy"))], 3),
        ([Exporter("a", ("healthy", "unknown"))], 4),
        ([Exporter("a", ("healthy", "-", "-"))], 4),
        ([Exporter("a", ("unhealthy", "unhealthy")), Exporter("b", ("healthy", "healthy"))], 1),
        ([Exporter("a", ("healthy", "-")), Exporter("b", ("unhealthy", "unhealthy"))], 3),
        ([Exporter("a", ("unknown", "unknown")), Exporter("b", ("degraded", "degraded"))], 2),
    ],
    ids=["healthy", "degraded", "unhealthy", "unknown", "gone", "best view", "one gone", "one unknown"],
)
def test_a_state_never_looks_better_than_it_is_known(tmp_path: Path, exporters: list[Exporter], shown: int) -> None:
    """A target's state is that of the exporter with the best view; when none is scraped any more, it is unknown."""
    labels = '{component="database", target="primary"}'
    evaluates(tmp_path, exporters, health('component="database"'), [{"labels": labels, "value": shown}])
    evaluates(tmp_path, exporters, system_health(), [{"labels": "{}", "value": shown}])


def test_a_system_that_nobody_has_ever_watched_is_unknown(tmp_path: Path) -> None:
    """Without any exporter there is a state all the same, and it is not a good one."""
    evaluates(tmp_path, [], system_health(), [{"labels": "{}", "value": 4}])


def test_a_link_of_which_nobody_speaks_any_more_is_unknown(tmp_path: Path) -> None:
    """Each series of the last hour has a state, whether it goes on or not."""
    gone = Exporter("a", ("healthy", "-"))
    series = 'auraconnect_component_critical{target="primary"}'
    expression = or_unknown(f"max by (target) ({series})", "target", series)
    evaluates(tmp_path, [gone], expression, [{"labels": '{target="primary"}', "value": 4}])
