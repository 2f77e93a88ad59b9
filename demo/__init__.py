"""A small AuraConnect to watch: an API, workers and people who order, each of which breaks on request."""

from typing import Final

QUEUES: Final = ("exports", "webhooks")
"""What the workers work on."""
