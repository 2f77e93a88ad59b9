"""How HTTP itself is served: what is the same for every request, and what is said of those that are none."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp.http import HttpProcessingError


class ProtocolLog(logging.LoggerAdapter[logging.Logger]):
    """The log of the HTTP server, without a word of what was sent.

    The header that can't be read may be the one with the credential, and whoever sends nonsense decides how often.
    """

    def exception(self, msg: object, *args: object, exc_info: Any = True, **kwargs: Any) -> None:
        """Log what went wrong: with its traceback where the fault may be ours."""
        if isinstance(exc_info, HttpProcessingError):
            self._unreadable(exc_info)
        else:
            super().exception(msg, *args, exc_info=exc_info, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a detail."""
        if isinstance(error := kwargs.get("exc_info"), BaseException):
            self._unreadable(error)
        else:
            super().debug(msg, *args, **kwargs)

    def _unreadable(self, error: BaseException) -> None:
        self.logger.info("what came is no request", extra={"reason": type(error).__name__})


def options() -> dict[str, Any]:
    """Return how aiohttp is to serve: ``AppRunner``'s own arguments."""
    return {
        "access_log": None,
        # A body is what it is: nobody's client compresses one, and what unpacks to more than it is could be anything.
        "auto_decompress": False,
        "logger": ProtocolLog(logging.getLogger(__name__)),
    }
