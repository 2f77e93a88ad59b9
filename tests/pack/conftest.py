"""Every check runs with the oldest and the newest version that the pack supports."""

import pytest


@pytest.fixture(params=["oldest", "newest"])
def release(request: pytest.FixtureRequest) -> str:
    """Return the release of Prometheus and Alertmanager to check with."""
    return str(request.param)
