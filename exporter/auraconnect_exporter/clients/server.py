"""Where a server is and how one signs in there: the frozen, checked form of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from auraconnect_exporter import endpoints
from auraconnect_exporter.endpoints import EndpointProblem
from auraconnect_exporter.model import Secret
from auraconnect_exporter.targets import HttpUrl


@dataclass(frozen=True, slots=True)
class Server:
    """A server with an HTTP API below ``base``.

    It is signed in to with ``token`` (as bearer), or else with ``user`` and ``password``, or not at all. ``headers``
    go with every request, such as Mimir's tenant (X-Scope-OrgID). ``timeout`` is in seconds, for a whole call.
    """

    base: HttpUrl
    token: Secret | None = None
    user: str = ""
    password: Secret | None = None
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 5.0

    @property
    def url(self) -> str:
        """Where it is, for people and requests: no slash at the end, no credentials."""
        host = f"[{self.base.host}]" if ":" in self.base.host else self.base.host
        port = "" if self.base.port == (443 if self.base.tls else 80) else f":{self.base.port}"
        return f"http{'s' if self.base.tls else ''}://{host}{port}{self.base.path.rstrip('/')}"


def base(url: str, ca_file: str | None = None) -> HttpUrl:
    """Take ``http[s]://host:9090/prefix`` apart. Raises EndpointProblem."""
    if "?" in url:
        raise EndpointProblem("has a query, but paths are put behind it")
    return endpoints.http(url, ca_file)
