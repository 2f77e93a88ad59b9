"""What the page benchmark concludes from its measurements."""

from benchmarks.page import Blips, Lost, missed, report

QUIET = Blips(blips=50, messages=0, control=9.0)


def test_good_figures_miss_no_bar() -> None:
    """At the limits themselves, nothing is missed; a frozen database is only reported."""
    killed = Lost("killed", ours=[5.0, 15.0, 25.0], usual=[60.0] * 3)
    frozen = Lost("frozen", ours=[99.0, 99.0, 99.0], usual=[99.0, 99.0, 99.0])
    assert missed([killed, frozen], QUIET) == []


def test_every_missed_bar_is_named() -> None:
    """Slow in the median, a page that never came, not fast enough beside the usual way, and noise."""
    killed = Lost("killed", ours=[16.0, 16.0, None], usual=[40.0] * 3)
    assert missed([killed], Blips(blips=50, messages=1, control=None)) == [
        "The median is above 15 s.",
        "The worst is above 25 s.",
        "It is less than 4 times faster than the usual way.",
        "A blip sent a message.",
        "After the blips a true loss paged nobody.",
    ]


def test_the_report_counts_a_missing_page_as_late() -> None:
    """Most pages missing means no median; the ratio is given where both medians are."""
    killed = Lost("killed", ours=[8.0, 10.0, 12.0], usual=[40.0, 45.0, 50.0])
    frozen = Lost("frozen", ours=[14.0, 15.0, 16.0], usual=[50.0, None, None])
    lines = report([killed, frozen], QUIET).splitlines()
    assert lines[2] == "| killed | this project | 3 | 3 | 10.0 s | 12.0 s | 8.0, 10.0, 12.0 |"
    assert lines[5] == "| frozen | the usual way | 3 | 1 | none | none within 90 s | 50.0, none, none |"
    assert "Times faster in the median: killed 4.5." in lines
