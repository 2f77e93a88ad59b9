"""What several boards ask: states that never look better than they are known, limits, requests of either source."""

from typing import Final

from tools.boards.model import GREEN, PURPLE, RED, YELLOW, Figure, Panel, Query, State, Timeline, Variable

HEALTH: Final = (
    State(1, "healthy", GREEN),
    State(2, "degraded", YELLOW),
    State(3, "unhealthy", RED),
    State(4, "unknown", PURPLE),
)

CONNECTED: Final = (State(1, "connected", GREEN), State(0, "cut off", RED), State(4, "unknown", PURPLE))
GOOD: Final = (State(1, "ok", GREEN), State(0, "failing", RED), State(4, "unknown", PURPLE))
REACHED: Final = (State(1, "up", GREEN), State(0, "down", RED), State(4, "unknown", PURPLE))
CIRCUIT: Final = (State(0, "as usual", GREEN), State(1, "asked less often", YELLOW), State(4, "unknown", PURPLE))

SEVERITY: Final = "critical|warning|info"
BOARD_OF_COMPONENT: Final = (
    "/d/auraconnect-${__field.labels.component}"
    "?var-target=${__field.labels.target}&${datasource:queryparam}&${__url_time_range}"
)


def limit(series: str, severity: str, legend: str = "") -> Query:
    """Return a recorded limit of the rules, to be drawn dashed: boards have no such number of their own."""
    selector = f'{series}{{severity="{severity}"}}'
    return Query(f"max({selector})", legend or f"{severity} limit", limit=severity)


def health(selector: str) -> str:
    """Return the state of targets as a number of HEALTH, by component and target.

    The best view of several exporters counts, as in the rules. A target of the last hour of which nothing is known
    is unknown, instead of a line that ends.
    """
    known = " or ".join(
        f'{state.value} * (auraconnect_component_health{{{selector}, state="{state.text}"}} == 1)' for state in HEALTH
    )
    return (
        f"min by (component, target) ({known})"
        f" or on (component, target) 4 + 0 * max by (component, target)"
        f" (last_over_time(auraconnect_component_critical{{{selector}}}[1h]))"
    )


def system_health() -> str:
    """Return the state of the whole system as a number of HEALTH; unknown where nobody says."""
    known = " or ".join(f'{state.value} * (auraconnect_system_health{{state="{state.text}"}} == 1)' for state in HEALTH)
    return f"min({known}) or on () vector(4)"


def or_unknown(expression: str, labels: str, series: str) -> str:
    """Return an expression whose gaps are unknown (4): for each combination of labels that a series had in an hour."""
    return f"({expression}) or on ({labels}) 4 + 0 * max by ({labels}) (last_over_time({series}[1h]))"


def targets_of(component: str) -> Variable:
    """Return the choice among the targets of a component."""
    return Variable(
        "target", "Target", f'label_values(auraconnect_component_critical{{component="{component}"}}, target)'
    )


_DOWN: Final = {"database": ("DatabaseConnectionLost",), "api": ("SystemDown", "ComponentDown")}


def state_now(component: str, width: int = 6) -> Figure:
    """Return the state of a component's targets at this moment."""
    return Figure(
        title="State now",
        description="What the exporter says of each target at this moment: three checks in a row decide. Unknown "
        "means that no check has ended lately, not that all is well.",
        unit="none",
        runbooks=(*_DOWN.get(component, ("ComponentDown",)), "ComponentDegraded"),
        width=width,
        queries=(Query(health(f'component="{component}", target=~"$target"'), "{{target}}"),),
        states=HEALTH,
    )


def states_over_time(component: str, width: int = 18) -> Timeline:
    """Return the states of a component's targets over time."""
    return Timeline(
        title="State over time",
        description="When each target was healthy, degraded (it answers, but slowly or near a limit), unhealthy (it "
        "does not answer) or unknown (nobody could tell).",
        unit="none",
        width=width,
        queries=(Query(health(f'component="{component}", target=~"$target"'), "{{target}}"),),
        states=HEALTH,
    )


def state(component: str) -> tuple[Panel, ...]:
    """Return the first line of a component's board."""
    return (state_now(component), states_over_time(component))


def of_either_source(from_api: str, from_exporter: str, labels: str) -> str:
    """Return an expression over the API's own metrics; for services that have none, over the exporter's.

    Never both added up, for they count the same requests; of several exporters, which count the same rows, the
    highest. `from_exporter` keeps `instance`.
    """
    return f"(sum by (service, {labels}) ({from_api}) or on (service) max by (service, {labels}) ({from_exporter}))"
