"""Overview: how is it, what fires, who knows, what changed."""

from typing import Final

from tools.boards.alerts import ACTIVE, CLIMBING, TOLD, UNACKNOWLEDGED, WATCHING
from tools.boards.model import Board, Column, Figure, Graph, Query, Row, Table, Timeline
from tools.boards.queries import BOARD_OF_COMPONENT, HEALTH, health, system_health
from tools.boards.requests import error_ratio, request_rate, response_time

_STARTED: Final = (
    'max by (job) (process_start_time_seconds{job=~"auraconnect-exporter|auraconnect-api|prometheus|alertmanager"})'
)

CHANGES: Final = Table(
    title="What changed last",
    description="When processes last started (a release of the API is one) and configurations were last read, the "
    "newest first. The boards show the same as purple marks.",
    unit="dateTimeFromNow",
    width=10,
    missing="unknown",
    sort_by="When",
    queries=(
        Query(
            f'1000 * label_replace({_STARTED}, "change", "$1 started", "job", "(.+)")'
            " or 1000 * label_replace(max(auraconnect_exporter_config_last_reload_success_timestamp_seconds), "
            '"change", "exporter read its configuration", "", "")'
            " or 1000 * label_replace(max(prometheus_config_last_reload_success_timestamp_seconds), "
            '"change", "prometheus read its configuration and rules", "", "")'
            " or 1000 * label_replace(max(alertmanager_config_last_reload_success_timestamp_seconds), "
            '"change", "alertmanager read its configuration", "", "")',
            "{{change}}",
        ),
    ),
    columns=(Column("change", "What"), Column("Value", "When", unit="dateTimeFromNow", width=160)),
)

SECURITY: Final = Graph(
    title="Signs of an attack",
    description="Failed sign-ins at PostgreSQL, roles that were changed, access that Redis denied, and requests that "
    "the API refused (401, 403), per second. Signs from several components within minutes are a break-in until "
    "somebody knows better.",
    unit="cps",
    runbooks=("SecurityBreachDetected", "SecuritySignal"),
    width=10,
    queries=(
        Query(
            "sum by (component, signal) (rate(instance_target:auraconnect_security_events:total[$__rate_interval]))",
            "{{component}}: {{signal}}",
        ),
        Query("max by (service) (service:http_unauthorized:rate2m)", "api: refused by {{service}}"),
    ),
)

MAINTENANCE: Final = Table(
    title="Planned maintenance",
    description="Windows that are open or come next. While one is open, warnings and notices of its component tell "
    "nobody.",
    unit="dateTimeFromNow",
    runbooks=("MaintenanceActive", "ScheduledMaintenanceUpcoming", "MaintenanceOverrun"),
    width=14,
    missing="none is planned",
    sort_by="",
    queries=(
        Query("1000 * maintenance_component_target:auraconnect_maintenance_start:timestamp_seconds", "start"),
        Query("1000 * maintenance_component_target:auraconnect_maintenance_end:timestamp_seconds", "end"),
    ),
    columns=(
        Column("maintenance", "Maintenance"),
        Column("component", "Component", width=100),
        Column("target", "Target"),
        Column("Value #A", "Begins", unit="dateTimeFromNow", width=150),
        Column("Value #B", "Ends", unit="dateTimeFromNow", width=150),
    ),
)

BOARD: Final = Board(
    uid="auraconnect-overview",
    title="AuraConnect · Overview",
    description="Start here: the state of the system and of each component, what fires and who has been told, "
    "requests against their limits, and what changed.",
    rows=(
        Row(
            "Now",
            (
                Figure(
                    title="System",
                    description="Unhealthy when a critical component is down, degraded when anything else is not "
                    "healthy, unknown when no exporter says.",
                    unit="none",
                    runbooks=("SystemDown",),
                    width=5,
                    height=9,
                    queries=(Query(system_health(), "system"),),
                    states=HEALTH,
                ),
                Figure(
                    title="Components",
                    description="The state of every target; a click opens its component's board.",
                    unit="none",
                    runbooks=(
                        "DatabaseConnectionLost",
                        "ComponentDown",
                        "ComponentDegraded",
                        "NonCriticalServiceInterrupted",
                    ),
                    width=5,
                    height=9,
                    queries=(Query(health('component!=""'), "{{component}} {{target}}"),),
                    states=HEALTH,
                    link=BOARD_OF_COMPONENT,
                ),
                ACTIVE,
            ),
        ),
        Row("Who knows", (WATCHING, UNACKNOWLEDGED, TOLD)),
        Row(
            "State over time",
            (
                Timeline(
                    title="System over time",
                    description="The state of the whole system. Unknown is a time in which nobody watched.",
                    unit="none",
                    width=24,
                    height=4,
                    queries=(Query(system_health(), "system"),),
                    states=HEALTH,
                ),
                Timeline(
                    title="Components over time",
                    description="The state of every target; a click opens the component's board.",
                    unit="none",
                    width=24,
                    height=9,
                    queries=(Query(health('component!=""'), "{{component}} {{target}}"),),
                    states=HEALTH,
                    link=BOARD_OF_COMPONENT,
                ),
            ),
        ),
        Row("Requests", (request_rate(".*"), error_ratio(".*"), response_time(".*"))),
        Row("What changed, and what is planned", (CHANGES, MAINTENANCE)),
        Row(
            "Climbing",
            (
                CLIMBING,
                SECURITY,
            ),
        ),
    ),
)
