"""What callers say they want, and what they get."""

from __future__ import annotations

import gzip

import pytest

from auraconnect_exporter.negotiation import accepts_gzip, compress, prefers_html, weights


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("GZIP", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=nonsense", False),
    ],
)
def test_gzip_only_where_it_is_accepted(header: str, accepted: bool) -> None:
    """A client that refuses gzip, or sends nonsense, gets the plain body."""
    assert accepts_gzip(header) is accepted


def test_compressed_body_is_the_body() -> None:
    """Compression loses nothing."""
    assert gzip.decompress(compress(b"auraconnect " * 1000)) == b"auraconnect " * 1000


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html", True),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("application/json, text/html;q=0.5", False),
        ("text/html;q=0", False),
        ("text/html;q=much", False),
    ],
)
def test_a_page_is_for_who_names_it(header: str, wanted: bool) -> None:
    """A browser names HTML; whoever takes anything is a program."""
    assert prefers_html(header) is wanted


def test_what_is_named_twice_counts_with_its_greater_weight() -> None:
    """As Prometheus names OpenMetrics, a version each."""
    assert weights("a;v=2;q=0.6, a;v=1;q=0.5, b") == {"a": 0.6, "b": 1.0}
