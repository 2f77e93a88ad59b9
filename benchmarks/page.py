"""Measure the time from a lost PostgreSQL to the page, and whether a single failed check pages anybody.

    python -m benchmarks.page [--faults 10] [--blips 50] [--seed N]

Three series run side by side, each with a PostgreSQL of its own, and print one Markdown report:

- killed: all of PostgreSQL's processes get SIGKILL at a random moment;
- frozen: they get SIGSTOP;
- blips: one check fails, the next is good, and at the end PostgreSQL is really killed.

In the first two the same PostgreSQL is watched by this project and in the usual way (see `usual_way`), both up to a
stand-in for PagerDuty; the time is that from just before the signal to the arrival of the page there. Faults begin
at a random moment of the usual way's 15 s cycle. Both ways start anew for each fault, on other ports, since it is
the ports and paths from which Prometheus derives the moments of its scrapes and evaluations: so neither is measured
ten times on one lucky or unlucky distance between the two. Exit status 1 if a bar is missed.
"""

import argparse
import logging
import os
import platform
import random
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import usual_way
from tests.e2e import database as faults
from tests.e2e.database import PASSWORD, database
from tests.e2e.stack import stack
from tests.standins.pagerduty import PagerDuty
from tests.standins.proxy import Proxy
from tools.servers import program

LONGEST_WAIT = 90.0
"""Seconds after which a page counts as missing; the usual way's worst case is 60 s and a few for delivery."""

CYCLE = 15.0
"""Seconds of the longest cycle, over which the moments of the faults are spread."""

BAR_MEDIAN, BAR_WORST, BAR_RATIO = 15.0, 25.0, 4.0

FAULTS = {"killed": faults.killed, "frozen": faults.frozen}

Seconds = float | None
"""From fault to page; None when none came."""


@dataclass(frozen=True)
class Lost:
    """A series of losses: the seconds to each page, as this project and as the usual way watch."""

    fault: str
    ours: list[Seconds]
    usual: list[Seconds]


@dataclass(frozen=True)
class Blips:
    """A series of single failed checks, and the messages that they sent; at the end a true loss, as a control."""

    blips: int
    messages: int
    control: Seconds


def measure_losses(fault: str, count: int, seed: int) -> Lost:
    """Lose PostgreSQL `count` times, `killed` or `frozen`."""
    moments = random.Random(f"{fault} {seed}")  # noqa: S311 - no secret, but repeatable
    ours: list[Seconds] = []
    usual: list[Seconds] = []
    with _folder() as folder, database(folder) as lost:
        for number in range(count):
            mine, other = folder / f"{number}-this-project", folder / f"{number}-the-usual-way"
            mine.mkdir()
            other.mkdir()
            with stack(mine, _watch(lost.url())) as running, usual_way.alerting(other, lost.server.dsn) as usual_pager:
                time.sleep(moments.uniform(0, CYCLE))
                begun = time.monotonic()
                with FAULTS[fault](lost):
                    ours.append(_seconds_to_page(running.channels.pagerduty, begun))
                    usual.append(_seconds_to_page(usual_pager, begun))
            _tell(f"{fault} {number + 1}/{count}: {_text(ours[-1])}, the usual way {_text(usual[-1])}")
    return Lost(fault, ours, usual)


def measure_blips(count: int, seed: int) -> Blips:
    """Let `count` single checks fail, each at a random moment."""
    moments = random.Random(f"blips {seed}")  # noqa: S311 - no secret, but repeatable
    with (
        _folder() as folder,
        database(folder) as blinking,
        Proxy(blinking.server.port) as proxy,
        stack(folder, _watch(blinking.url(proxy.port))) as running,
    ):
        for number in range(count):
            time.sleep(moments.uniform(0, 5))
            proxy.blip(0.5)
            running.wait_for_failed_checks(number + 1, component="database", target="primary")
        # What the last one might cause is sent by then.
        running.wait_for_evaluation()
        running.wait_for_evaluation()
        messages = sum(len(of_channel) for of_channel in running.messages())
        _tell(f"{count} blips: {messages} messages")
        begun = time.monotonic()
        with faults.killed(blinking):
            control = _seconds_to_page(running.channels.pagerduty, begun)
    return Blips(count, messages, control)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-page-") as name:
        yield Path(name)


def _watch(url: str) -> dict[str, Any]:
    return {"database": [{"name": "primary", "url": url, "password": PASSWORD}], "host": []}


def _seconds_to_page(pagerduty: PagerDuty, begun: float) -> Seconds:
    """Wait for the first page; return the seconds to it since `begun` (time.monotonic)."""
    try:
        pagerduty.wait_for(lambda: len(pagerduty.triggers) > 0, begun + LONGEST_WAIT - time.monotonic())
    except TimeoutError:
        return None
    return pagerduty.triggers[0].at - begun


def _hush() -> None:
    """Keep the mail server's remark on its own code out of the progress."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def report(losses: Sequence[Lost], blips: Blips) -> str:
    """Return the results as Markdown."""
    lines = [
        "| PostgreSQL | watched by | faults | pages | median | worst | each, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for lost in losses:
        lines += [_row(lost.fault, "this project", lost.ours), _row(lost.fault, "the usual way", lost.usual)]
    ratios = [f"{lost.fault} {ratio:.1f}" for lost in losses if (ratio := _ratio(lost))]
    faster = f"Times faster in the median: {', '.join(ratios) or 'not known'}."
    blinked = (
        f"Blips of one failed check: {blips.blips}. Messages that they sent, on any channel: {blips.messages}. "
        f"Killed after them, the same PostgreSQL paged in {_text(blips.control)}."
    )
    return "\n".join([*lines, "", faster, "", blinked])


def _row(fault: str, watched_by: str, times: Sequence[Seconds]) -> str:
    came = [seconds for seconds in times if seconds is not None]
    each = ", ".join("none" if seconds is None else f"{seconds:.1f}" for seconds in times)
    worst = _text(max(came)) if len(came) == len(times) else f"none within {LONGEST_WAIT:g} s"
    return f"| {fault} | {watched_by} | {len(times)} | {len(came)} | {_text(_median(times))} | {worst} | {each} |"


def _median(times: Sequence[Seconds]) -> Seconds:
    """Return the median, in which a page that did not come counts as late; None if that is what it is."""
    median = statistics.median(float("inf") if seconds is None else seconds for seconds in times)
    return None if median == float("inf") else median


def _ratio(lost: Lost) -> float | None:
    ours, usual = _median(lost.ours), _median(lost.usual)
    return usual / ours if ours and usual else None


def _text(seconds: Seconds) -> str:
    return "none" if seconds is None else f"{seconds:.1f} s"


def missed(losses: Sequence[Lost], blips: Blips) -> list[str]:
    """Return what a killed database and blips must not show, as sentences; a frozen one is only reported."""
    killed = next(lost for lost in losses if lost.fault == "killed")
    median, ratio = _median(killed.ours), _ratio(killed)
    checks = {
        f"The median is above {BAR_MEDIAN:g} s.": median is None or median > BAR_MEDIAN,
        f"The worst is above {BAR_WORST:g} s.": any(time is None or time > BAR_WORST for time in killed.ours),
        f"It is less than {BAR_RATIO:g} times faster than the usual way.": ratio is not None and ratio < BAR_RATIO,
        "A blip sent a message.": blips.messages > 0,
        "After the blips a true loss paged nobody.": blips.control is None,
    }
    return [sentence for sentence, is_missed in checks.items() if is_missed]


def conditions(seed: int) -> str:
    """Return on what was measured, as a Markdown paragraph."""
    names = ("prometheus", "alertmanager", "postgres", "postgres-exporter")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, seed {seed}, {os.cpu_count()} processors ({platform.machine()}), "
        f"{memory:.0f} GiB, load average {os.getloadavg()[2]:.1f}; Python {platform.python_version()}, {versions}."
    )


def _version(name: str) -> str:
    said = subprocess.run([program(name), "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found[0] if found else "of unknown version"


def main(arguments: Sequence[str]) -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description="From a lost PostgreSQL to the page."
    )
    parser.add_argument("--faults", type=int, default=10, help="of each kind (default: %(default)s)")
    parser.add_argument("--blips", type=int, default=50, help="single failed checks (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the random moments")
    options = parser.parse_args(arguments)
    _tell(f"Seed {options.seed}. Ten faults of each kind take about twenty minutes.")
    # Processes of their own: the servers end with whatever started them.
    with ProcessPoolExecutor(3, mp_context=get_context("spawn"), initializer=_hush) as workers:
        losing = [workers.submit(measure_losses, fault, options.faults, options.seed) for fault in FAULTS]
        blinking = workers.submit(measure_blips, options.blips, options.seed)
        losses, blips = [one.result() for one in losing], blinking.result()
    print(conditions(options.seed), report(losses, blips), sep="\n\n")
    failures = missed(losses, blips)
    for sentence in failures:
        _tell(sentence)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
