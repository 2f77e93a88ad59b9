"""What every board marks in its graphs: alerts, maintenance, and what changed."""

from typing import Final

from tools.boards.model import BLUE, GREY, ORANGE, PURPLE, RED, Annotation

_ALERT: Final = "{{alertname}} {{source_alert}}"
_WHERE: Final = "{{component}} {{target}}"
_STARTED: Final = "1000 * process_start_time_seconds"


def _firing(severity: str) -> str:
    return f'ALERTS{{alertstate="firing", severity="{severity}"}}'


def _read(server: str, name: str) -> str:
    """Return when a server last read its configuration, in ms."""
    series = f"{server}_config_last_reload_success_timestamp_seconds"
    return f'label_replace(1000 * {series}, "of", "{name}", "", "")'


ANNOTATIONS: Final = (
    Annotation("Critical alerts", _firing("critical"), _ALERT, _WHERE, RED),
    Annotation("Warnings", _firing("warning"), _ALERT, _WHERE, ORANGE),
    Annotation("Notices", _firing("info"), _ALERT, _WHERE, BLUE, enabled=False),
    Annotation(
        "Maintenance",
        "maintenance_component_target:auraconnect_maintenance_active:max == 1",
        "Maintenance: {{maintenance}}",
        _WHERE,
        GREY,
    ),
    # A release of the API starts it anew.
    Annotation(
        "API started",
        f'{_STARTED}{{job="auraconnect-api"}}',
        "{{service}} started",
        "{{instance}}",
        PURPLE,
        at=True,
    ),
    Annotation(
        "Exporter started",
        f"{_STARTED} * on (job, instance) group_left (version) auraconnect_exporter_build_info",
        "Exporter {{version}} started",
        "{{instance}}",
        PURPLE,
        at=True,
    ),
    Annotation(
        "Configuration read",
        " or ".join(
            (
                _read("auraconnect_exporter", "exporter"),
                _read("prometheus", "Prometheus"),
                _read("alertmanager", "Alertmanager"),
            )
        ),
        "Configuration read: {{of}}",
        "{{instance}}",
        PURPLE,
        at=True,
    ),
    Annotation(
        "Rules changed",
        "auraconnect:rule_pack:info unless on (version) auraconnect:rule_pack:info offset 5m",
        "Rules {{version}}",
        "The rules have this version now",
        PURPLE,
    ),
)
