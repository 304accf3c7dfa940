# `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
RUN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MAKECMDGOALS

.PHONY: help demo demo-down install install-dev lint format test unit conformance torture soak bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: root install  ## Start a lab of three hosts, push sample-repo, show it (root; CONTROLLERS=3 replicates)
	@$(RUN)/gitkube demo $(if $(CONTROLLERS),--controllers $(CONTROLLERS))

demo-down: root  ## Remove all that the demo made: namespaces, processes, files (root)
	@if [ -x $(RUN)/gitkube ]; then $(RUN)/gitkube demo --down; fi

.PHONY: root
root:
	@if [ "$$(id -u)" != 0 ]; then \
	  echo "The lab makes network namespaces and mounts, so it needs root. Run: sudo make $(MAKECMDGOALS)" >&2; exit 1; fi

install:
	@scripts/install.sh run

install-dev:
	@scripts/install.sh dev

lint: install-dev  ## Check style, types and the layers of imports
	$(RUN)/ruff check --output-format=concise .
	$(RUN)/ruff format --check --quiet .
	$(RUN)/mypy
	$(RUN)/lint-imports

format: install-dev  ## Bring the code into the house's style
	$(RUN)/ruff check --fix --quiet .
	$(RUN)/ruff format .

# What `make unit` leaves: of its directory only files with slow tests are read once more. Most of it waits for
# timeouts and for hosts that boot, so three processes have work for two processors (tests/conftest.py).
REST = $(filter-out %/__pycache__/ tests/unit/ tests/support/,$(wildcard tests/*/)) \
  $(shell grep -rl --include=*.py 'mark\.slow' tests/unit)

# The simulation's minute is worth most when nothing else wants the processors.
SEEDS = tests/sim/test_seeds.py

test: unit  ## Run everything, unit to lab (lab tests need root)
	$(RUN)/pytest $(REST) -m "not quick" -n 3 --dist loadfile --ignore=$(SEEDS)
	$(RUN)/pytest $(SEEDS)

unit: install-dev  ## Run the quick tests, which need neither root nor a network
	$(RUN)/pytest tests/unit -m quick -n 3

conformance: install-dev  ## Try what Kubernetes' conformance tests ask for; write docs/reference/conformance.md
	$(RUN)/python -m tests.conformance --patient --write
	@if [ -n "$$E2E_TEST" ]; then $(RUN)/python -m tests.conformance.real_suite; fi

torture: install-dev  ## Kill, stop and cut off real store members for ten minutes; check every answer
	$(RUN)/python -m tests.torture --members 3 --seconds 120 --seed 1 --runs 4
	$(RUN)/python -m tests.torture --members 3 --seconds 120 --seed 101 --membership

soak: install-dev  ## Simulate the store's members with 100,000 seeds on all cores (hours)
	$(RUN)/python -m gitkube.sim --seeds 100000 --jobs auto

bench: install-dev  ## Print all measures beside their references (lab ones need root)
	@for script in bench/*.py; do echo "== $$script"; $(RUN)/python $$script || exit 1; done

clean:  ## Remove what was built and installed here (not the lab: make demo-down)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build dist
