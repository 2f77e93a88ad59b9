"""A Prometheus exporter that watches AuraConnect and serves its incident-response procedure."""

__version__ = "0.1.0"
