"""What a probe is, and how its failures are named."""

from __future__ import annotations

import os
import re
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator

from auraconnect_exporter.model import Reading, Reason, Sample


class ProbeError(Exception):
    """An attempt failed: a reason from the fixed list, and a sentence for people without credentials.

    ``samples`` are what could be measured all the same, such as an HTTP status.
    """

    def __init__(self, reason: Reason, message: str, samples: tuple[Sample, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.samples = samples


class Probe(ABC):
    """Reads one system. Keeps a connection from check to check where that is cheaper, never more than one."""

    collectors: tuple[str, ...]
    """The parts of a reading, each of which can fail alone."""

    @abstractmethod
    async def check(self) -> Reading:
        """Ask the system. Raises ProbeError, or whatever its driver raises.

        Has no deadline of its own: the runner ends it. After a failure the next check starts afresh.
        """

    def interrupt(self) -> bool:
        """Make a check that hangs fail at once, without cancelling it; False where cancelling is right.

        Must not block.
        """
        return False

    async def close(self) -> None:  # noqa: B027  # most probes keep nothing
        """Let go of the connection; no check is running."""


# The first that fits names the failure; what the operating system says stands behind the driver's own error.
_FAILURES: tuple[tuple[type[BaseException], Reason, str], ...] = (
    (socket.gaierror, Reason.DNS, "the name can't be resolved"),
    (ssl.SSLError, Reason.TLS, "TLS failed"),
    (ConnectionRefusedError, Reason.REFUSED, "connection refused"),
    (ConnectionError, Reason.PROTOCOL, "the connection was closed by the other side"),
    (EOFError, Reason.PROTOCOL, "the connection was closed by the other side"),
    (TimeoutError, Reason.TIMEOUT, "no answer in time"),
    (OSError, Reason.ERROR, "the operating system failed"),
)


def explain(error: BaseException) -> ProbeError:
    """Name any failure."""
    for cause in map(_first_of_several, _causes(error)):
        if isinstance(cause, ProbeError):
            return cause
        if type(cause) is OSError and cause.errno is None:
            continue  # a library's word for what stands behind it
        for kind, reason, sentence in _FAILURES:
            if isinstance(cause, kind):
                detail = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None)
                return ProbeError(reason, f"{sentence}: {detail}" if detail else sentence)
    return ProbeError(Reason.ERROR, f"unexpected {type(error).__name__}")


def _first_of_several(error: BaseException) -> BaseException:
    """Return the first error of those that asyncio, for a name with several addresses, joins into one text."""
    several = re.match(r"Multiple exceptions: \[Errno (\d+)\]", str(error))
    return OSError(int(several[1]), os.strerror(int(several[1]))) if several else error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it, down to the first one, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
