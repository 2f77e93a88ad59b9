"""Alertmanager's configuration, looked at as a whole: is it sound, who is told of what, and does it arrive."""
