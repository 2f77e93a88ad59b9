"""Limits by address: who is slowed down, who never is, and whose address it is behind proxies."""

from __future__ import annotations

import argparse
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auraconnect_exporter.limits import FailedSignIns, RateLimit, client_address, parse_trusted_proxies

PROXIES = parse_trusted_proxies("10.0.0.0/8, 127.0.0.1,::1,2001:db8:ffff::/48")


class TestFailedSignIns:
    def test_thirty_failures_a_minute_are_only_counted(self) -> None:
        """The 31st at once is told to wait until the next one would do."""
        failures = FailedSignIns()
        assert [failures.count("192.0.2.1", 100.0) for _ in range(30)] == [None] * 30
        assert failures.count("192.0.2.1", 100.0) == 2

    def test_waiting_as_told_helps(self) -> None:
        """After Retry-After there is room for one more, after a minute for thirty."""
        failures = FailedSignIns()
        answers = [failures.count("192.0.2.1", 0.0) for _ in range(31)]
        assert answers[-1] is not None
        assert failures.count("192.0.2.1", answers[-1]) is None
        assert failures.count("192.0.2.1", answers[-1]) is not None
        assert [failures.count("192.0.2.1", 100.0) for _ in range(30)] == [None] * 30
        assert failures.count("192.0.2.1", 100.0) is not None

    def test_in_any_minute_thirty_are_allowed(self) -> None:
        """A steady two seconds between failures is never limited."""
        failures = FailedSignIns()
        assert {failures.count("192.0.2.1", 2.0 * number) for number in range(200)} == {None}

    def test_addresses_are_counted_apart(self) -> None:
        """One address that fails limits no other."""
        failures = FailedSignIns()
        for _ in range(100):
            failures.count("192.0.2.1", 0.0)
        assert failures.count("192.0.2.2", 0.0) is None

    def test_an_ipv6_network_counts_as_one(self) -> None:
        """Whoever has a /64 can't use each of its addresses once; the neighbour's is another."""
        failures = FailedSignIns(per_minute=2)
        for last in ("1", "2"):
            assert failures.count(f"2001:db8:0:1::{last}", 0.0) is None
        assert failures.count("2001:db8:0:1:ffff::3", 0.0) is not None
        assert failures.count("2001:db8:0:2::1", 0.0) is None

    def test_an_ipv4_address_has_one_spelling(self) -> None:
        """The same client on a socket for both families is the same."""
        failures = FailedSignIns(per_minute=1)
        assert failures.count("::ffff:192.0.2.1", 0.0) is None
        assert failures.count("192.0.2.1", 0.0) is not None

    def test_the_address_not_heard_of_for_longest_is_forgotten(self) -> None:
        """Memory is bounded, and who goes on failing stays in it."""
        failures = FailedSignIns(per_minute=1, most=3)
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.4"):
            failures.count(address, 0.0)
        assert failures.count("192.0.2.1", 0.0) is not None
        assert failures.count("192.0.2.2", 0.0) is None

    def test_ten_thousand_addresses_are_the_most(self) -> None:
        """A million addresses leave ten thousand behind."""
        failures = FailedSignIns()
        for number in range(20_000):
            failures.count(f"10.0.{number // 256}.{number % 256}", 0.0)
        assert len(failures._buckets._levels) == 10_000

    def test_a_clock_that_stands_still_or_back_gives_nothing(self) -> None:
        """No step of the clock fills a bucket beyond its size, nor takes from it."""
        failures = FailedSignIns(per_minute=2)
        assert failures.count("192.0.2.1", 100.0) is None
        assert failures.count("192.0.2.1", 0.0) is None
        assert failures.count("192.0.2.1", 0.0) is not None


class TestRateLimit:
    def test_a_client_has_600_calls_a_minute(self) -> None:
        """The 601st at once waits."""
        limit = RateLimit(PROXIES)
        assert {limit.count("192.0.2.1", 0.0) for _ in range(600)} == {None}
        assert limit.count("192.0.2.1", 0.0) == 1

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3"])
    def test_this_machine_and_the_proxies_are_exempt(self, address: str) -> None:
        """A health check on the machine, and a proxy that names nobody, are not one client."""
        limit = RateLimit(PROXIES, per_minute=1)
        assert {limit.count(address, 0.0) for _ in range(100)} == {None}


class TestClientAddress:
    @pytest.mark.parametrize(
        ("peer", "forwarded_for", "expected"),
        [
            ("192.0.2.1", None, "192.0.2.1"),
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1", None, "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "1.1.1.1,\t198.51.100.7 , 10.0.0.2,127.0.0.1", "198.51.100.7"),
            ("10.0.0.1", "10.9.9.9, 10.0.0.2", "10.9.9.9"),
            ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
            ("10.0.0.1", "2001:DB8::1", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ("2001:db8:ffff::1", "2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "garbage, 198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "198.51.100.7, garbage", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.7, unknown, 10.0.0.2", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.7,", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.007", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.7\x00", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1," * 600 + "198.51.100.7", "10.0.0.1"),
            ("", "198.51.100.7", ""),
        ],
    )
    def test_the_last_address_that_is_no_proxy_counts(
        self, peer: str, forwarded_for: str | None, expected: str
    ) -> None:
        """Only what our own proxies have written counts; what can't be read makes it the peer's address."""
        assert client_address(peer, forwarded_for, PROXIES) == expected

    def test_without_proxies_nobody_is_believed(self) -> None:
        """X-Forwarded-For means nothing unless somebody is trusted to write it."""
        assert client_address("127.0.0.1", "198.51.100.7", ()) == "127.0.0.1"

    @given(st.text(max_size=200))
    def test_an_invented_left_part_changes_nothing(self, invented: str) -> None:
        """Whatever a client sends, what our proxy added behind it is what counts."""
        assert client_address("10.0.0.1", f"{invented},198.51.100.7", PROXIES) == "198.51.100.7"


class TestTrustedProxies:
    def test_networks_and_addresses_are_read(self) -> None:
        """An address is a network of one."""
        assert [str(network) for network in PROXIES] == [
            "10.0.0.0/8",
            "127.0.0.1/32",
            "::1/128",
            "2001:db8:ffff::/48",
        ]
        assert parse_trusted_proxies("") == ()

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("proxy.internal", "'proxy.internal' is not a network such as 10.0.0.0/8 or an address"),
            ("10.0.0.1/8", "'10.0.0.1/8' is not a network such as 10.0.0.0/8 or an address"),
            ("*", "'*' is not a network such as 10.0.0.0/8 or an address"),
            ("10.0.0.0/8,0.0.0.0/0", "'0.0.0.0/0' is everybody, who could then claim any address"),
            ("::/0", "'::/0' is everybody, who could then claim any address"),
        ],
    )
    def test_what_is_no_network_is_refused(self, text: str, sentence: str) -> None:
        """A flag that would trust nobody, or everybody, is said to be wrong."""
        with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(sentence)}$"):
            parse_trusted_proxies(text)
