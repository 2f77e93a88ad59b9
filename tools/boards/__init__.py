"""Grafana's boards, built from typed Python: `make boards` writes `grafana/dashboards/`.

`model` says what a board is made of, `grafana` writes it as the JSON that Grafana 10 to 12 load, `queries` has what
several boards ask, and each board has a file of its own. Standard library only.
"""
