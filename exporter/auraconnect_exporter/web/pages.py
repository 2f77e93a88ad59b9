"""The HTML pages, as pure functions from data to text. No scripts, nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from html import escape
from typing import Final

from auraconnect_exporter.model import Snapshot, TargetView

STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8888; vertical-align: top; }
pre { overflow-x: auto; padding: .75rem; background: #8882; }
.healthy::before { content: "\\25CF "; color: #1a8a3a; }
.degraded::before { content: "\\25B2 "; color: #b86e00; }
.unhealthy::before { content: "\\25A0 "; color: #c62828; }
.unknown::before { content: "? "; font-weight: bold; }
.operational::before { content: "\\25CF "; color: #1a8a3a; }
.outage::before { content: "\\25A0 "; color: #c62828; }
.overall { font-size: 1.25rem; padding: .75rem 1rem; border: 1px solid #8888; border-radius: .5rem; }
.components { padding: 0; }
.components li { display: flex; justify-content: space-between; padding: .25rem 0; border-bottom: 1px solid #8888; }
article ul { padding-left: 1rem; } article li { margin: .5rem 0; overflow-wrap: anywhere; white-space: pre-line; }
"""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)

REFRESH_SECONDS: Final = 5


def overview(snapshot: Snapshot, version: str, base: str) -> str:
    """Return the first page: what is watched and how it is, and where else to look. ``base`` precedes links."""
    rows = "".join(_row(view, snapshot.time) for view in snapshot.targets)
    moment = datetime.fromtimestamp(snapshot.time, UTC).isoformat(timespec="seconds")
    return _page(
        "AuraConnect monitoring",
        f"""<h1>AuraConnect monitoring</h1>
<p>System: <strong class="{snapshot.system}">{snapshot.system}</strong> at {escape(moment)}</p>
<table><thead><tr><th scope="col">Component</th><th scope="col">Target</th><th scope="col">Health</th>
<th scope="col">Last check</th></tr></thead><tbody>{rows}</tbody></table>
<p><a href="{escape(base)}/runbooks/">Runbooks</a> · <a href="/metrics">Metrics</a> ·
<a href="/api/v1/health">Health API</a> · version {escape(version)}</p>""",
        refresh=REFRESH_SECONDS,
    )


def _row(view: TargetView, now: float) -> str:
    last = view.state.last
    age = f"{max(0.0, now - last.started):.0f} s ago" if last else "none yet"
    why = f": {escape(last.result)}" if last and not last.ok else ""
    return (
        f"<tr><td>{view.id.component}</td><td>{escape(view.id.name)}</td>"
        f'<td><span class="{view.health}">{view.health}{why}</span></td><td>{age}</td></tr>'
    )


_BESIDE_THE_RUNBOOKS: Final = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
"""A link from a runbook to another file of the repository. Those are not served: contacts have telephone numbers."""


def runbook(name: str, markdown: str) -> str:
    """Return a runbook as a page; where it links to another file of the repository, it names that."""
    text = _BESIDE_THE_RUNBOOKS.sub(r"\1 (`\2` in the repository)", markdown)
    # Over a megabyte of memory, for those who read runbooks only.
    from markdown_it import MarkdownIt  # noqa: PLC0415

    return _page(name, MarkdownIt("commonmark", {"html": False}).enable("table").render(text))


def runbooks(names: list[str], base: str) -> str:
    """Return the list of runbooks."""
    items = "".join(f'<li><a href="{escape(base)}/runbooks/{escape(name)}">{escape(name)}</a></li>' for name in names)
    return _page("Runbooks", f"<h1>Runbooks</h1><ul>{items}</ul>")


def status(title: str, body: str) -> str:
    """Return the public page around its body, which is markup already."""
    return _page(title, body, refresh=60)


def _page(title: str, body: str, *, refresh: int = 0) -> str:
    reload = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">{reload}'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
