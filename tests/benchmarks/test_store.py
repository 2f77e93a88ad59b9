"""The benchmark of the store: what it makes up, and what it prints."""

from random import Random

import pytest

from auraconnect_exporter.records import SECOND
from benchmarks.store import LAST_HOUR, made_up, main

NOW = 1_764_072_000 * SECOND


def test_the_last_hour_has_the_same_number_of_errors_however_many_there_are() -> None:
    """What a list of the last hour returns is as much with few errors as with many; the rest is older."""
    random = Random(1)  # noqa: S311  # nothing secret
    ages = [[NOW - error.created_at for error in made_up(count, NOW, random)] for count in (1000, 3000)]
    assert [sum(age < 3600 * SECOND for age in each) for each in ages] == [LAST_HOUR, LAST_HOUR]
    assert [max(each) < 168 * 3600 * SECOND for each in ages] == [True, True]


def test_it_measures_both_engines(capsys: pytest.CaptureFixture[str]) -> None:
    """A small run fills real databases and prints each request for each of them."""
    status = main(["--few", "600", "--many", "700", "--rounds", "3", "--writes", "5"])
    printed = capsys.readouterr().out
    assert status in {0, 1}
    for engine in ("SQLite", "PostgreSQL"):
        assert f"{engine}: 700 errors written" in printed
        assert f"| {engine} | 600 errors, ms | 700 errors, ms | ratio |" in printed
    assert printed.count("| `/errors/summary?hours=24` |") == 2
