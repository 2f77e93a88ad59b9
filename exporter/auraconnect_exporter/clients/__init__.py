"""Clients of the servers that we ask and tell: Prometheus and Alertmanager, over HTTP."""
