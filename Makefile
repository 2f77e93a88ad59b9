# The two commands are ./run and ./test; these are the rest, and short names.
python := .venv/bin/python

.PHONY: help run test lint lock mutation screenshots golden golden-scrape boards rules-package bench bench-api bench-page bench-rules bench-store exactly-once request-log soak clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## start the exporter, Prometheus and Alertmanager here
	./run

test: ## check and test everything
	./test

lint: ## ruff and mypy alone
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy

# --universal: one file for every supported Python; no addresses, so that any mirror serves it.
lock_command := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

lock: ## pin the newest versions of all dependencies (needs uv)
	$(lock_command) --upgrade --extra test --output-file requirements-test.lock pyproject.toml
	$(lock_command) --upgrade --constraint requirements-test.lock --output-file requirements.lock pyproject.toml
	$(lock_command) --upgrade --constraint requirements-test.lock --extra demo --output-file requirements-demo.lock pyproject.toml
	$(lock_command) --upgrade --output-file tests/probes/arq-requirements.lock tests/probes/arq-requirements.txt

mutation: ## change the rules in one place at a time, and see whether a test notices (about half an hour)
	PYTHONPATH=. $(python) -m tools.mutation

screenshots: ## take the pictures of the pages that the README shows
	PYTHONPATH=exporter:. $(python) -m tests.browser.screenshots

golden: ## write anew what each channel says in each case (then read the difference)
	PYTHONPATH=.:exporter $(python) -m tests.pack.golden

golden-scrape: ## write anew which metrics a scrape of everything has (then read the difference)
	PYTHONPATH=.:exporter $(python) -m tests.scrape

boards: ## write Grafana's boards anew (then look at the difference)
	PYTHONPATH=. $(python) -m tools.boards

rules-package: ## pack the rules: a tar, and a PrometheusRule for the Prometheus operator
	PYTHONPATH=. $(python) -m tools.rule_pack package

bench: ## ours beside the four exporters that it replaces, and with many targets and series (half an hour)
	PYTHONPATH=exporter:. $(python) -m benchmarks.exporters

bench-api: ## what the health API serves and costs while PostgreSQL hangs, and with a million errors
	PYTHONPATH=exporter:. $(python) -m benchmarks.api

bench-page: ## time from fault to page, beside the usual way (about half an hour)
	PYTHONPATH=. $(python) -m benchmarks.page

bench-rules: ## what the rules cost Prometheus over a large system
	PYTHONPATH=. $(python) -m benchmarks.rules

bench-store: ## is the store as quick with a million errors as with a thousand, on both engines
	PYTHONPATH=exporter:. $(python) -m benchmarks.store

soak: ## a day of probes in minutes, while what they watch breaks: nothing may leak
	PYTHONPATH=exporter:. $(python) -m tests.soak.probes

exactly-once: ## 10,000 deliveries to a process that is killed again and again, on both engines (minutes)
	PYTHONPATH=exporter:. $(python) -m benchmarks.exactly_once

request-log: ## a million requests, late and around kills of the exporter: each once; and what counting costs (minutes)
	PYTHONPATH=exporter:. $(python) -m benchmarks.request_log

clean: ## remove what the commands made here
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
