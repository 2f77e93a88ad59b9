"""Limits by address: failed sign-ins, calls of what is public; and whose address it is behind proxies.

Memory is bounded: only so many addresses are remembered, and the one not heard of for the longest time goes first.
"""

from __future__ import annotations

import argparse
import math
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_ADDRESSES: Final = 10_000
MAX_FORWARDED: Final = 4096
"""Characters of ``X-Forwarded-For``."""

FAILURES_A_MINUTE: Final = 30
CALLS_A_MINUTE: Final = 600


class _Buckets:
    """A bucket for each address that holds ``per_minute`` tokens, and gets as many back in a minute."""

    def __init__(self, per_minute: int, most: int) -> None:
        self._size = float(per_minute)
        self._rate = per_minute / 60.0
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> int | None:
        """Take a token; returns the whole seconds until there is one again where there is none, at least 1."""
        key = _counted_as(address)
        level, then = self._levels.pop(key, (self._size, now))
        level = min(self._size, level + max(0.0, now - then) * self._rate)
        taken = level >= 1.0
        self._levels[key] = (level - 1.0 if taken else level, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return None if taken else max(1, math.ceil((1.0 - level) / self._rate))


class FailedSignIns:
    """Counts failed sign-ins by address. Ask only once a credential has failed: a valid one is never limited."""

    def __init__(self, per_minute: int = FAILURES_A_MINUTE, most: int = MAX_ADDRESSES) -> None:
        self._buckets = _Buckets(per_minute, most)

    def count(self, address: str, now: float) -> int | None:
        """Count one failure at a monotonic time; returns seconds for ``Retry-After`` once there were too many."""
        return self._buckets.take(address, now)


class RateLimit:
    """Limits calls by address. This machine and our proxies are exempt: behind one of them stands everybody."""

    def __init__(
        self, proxies: tuple[Network, ...], per_minute: int = CALLS_A_MINUTE, most: int = MAX_ADDRESSES
    ) -> None:
        self._proxies = proxies
        self._buckets = _Buckets(per_minute, most)

    def count(self, address: str, now: float) -> int | None:
        """Count one call at a monotonic time; returns seconds for ``Retry-After`` if it is one too many."""
        parsed = _parsed(address)
        if parsed is not None and (parsed.is_loopback or _within(parsed, self._proxies)):
            return None
        return self._buckets.take(address, now)


def client_address(peer: str, forwarded_for: str | None, proxies: tuple[Network, ...]) -> str:
    """Return the address of whoever asks: the peer's, or the one that the last of our proxies saw.

    ``forwarded_for`` is ``X-Forwarded-For`` (several of them joined by commas), whose left part anyone can invent: from
    its right end our proxies are skipped, and the first address that is not one of them counts. What can't be read
    makes it the peer's.
    """
    if not forwarded_for or not proxies or len(forwarded_for) > MAX_FORWARDED:
        return peer
    address = _parsed(peer)
    for entry in reversed(forwarded_for.split(",")):
        if address is None or not _within(address, proxies):
            break
        address = _parsed(_without_port(entry.strip(" \t")))
    return peer if address is None else str(address)


def parse_trusted_proxies(text: str) -> tuple[Network, ...]:
    """Return the networks in ``10.0.0.0/8,127.0.0.1,::1``. Raises ArgumentTypeError."""
    networks: list[Network] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        try:
            network = ip_network(entry)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{entry!r} is not a network such as 10.0.0.0/8 or an address") from None
        if network.prefixlen == 0:
            raise argparse.ArgumentTypeError(f"{entry!r} is everybody, who could then claim any address")
        networks.append(network)
    return tuple(networks)


def _without_port(entry: str) -> str:
    """Return the address of ``192.0.2.1:4711``, ``[2001:db8::1]:4711`` or ``[2001:db8::1]``."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=4096)
def _counted_as(address: str) -> str:
    """Return what an address counts as: one IPv6 network is one customer's, who may use any address in it."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address if parsed is None else str(parsed)
