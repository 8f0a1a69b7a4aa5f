# What one does here. `make` alone prints this list.

PYTHON ?= python3
VENV   ?= .venv

UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' .ci/uv.txt)
UV         := $(shell uv --version 2>/dev/null | grep -q '^uv $(UV_VERSION)\b' && echo uv || echo .uv/bin/uv)

# Nothing is ever downloaded that is not a package: the Python is the one that is here.
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(VENV)

define need_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "Python 3.11 or later is needed, and $(PYTHON) is not one. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
endef

# The tests that run the service as processes.
SYSTEM := tests/system/acceptance tests/system/faults tests/system/soak
PARTS  := $(SYSTEM:%=--ignore=%)

# Its settings and log stay in its own folder, and it tells nobody anything.
SEMGREP := SEMGREP_SETTINGS_FILE=.semgrep/settings.yml SEMGREP_LOG_FILE=.semgrep/log .semgrep/bin/semgrep
QUIETLY := --metrics=off --disable-version-check

.PHONY: help setup demo kits test calendar leap-day last-minute coverage system lint fix semgrep sbom fuzz contracts docs money model faults soak bench ci clean
.DEFAULT_GOAL := help

help: ## Print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

setup: $(VENV)/ready ## Make the virtual environment with the locked dependencies

demo: setup ## Run three example plans through every part, on this machine, and show what came of them
	@$(VENV)/bin/exports demo

test: setup ## Run the tests of all parts (servers that are not installed are skipped, unless CI is set)
	$(VENV)/bin/pytest $(PARTS)

# The tests that read the clock, on a leap day, and over the end of a year where it ends last. How much dearer a larger plan
# is does not depend on the day.
CALENDAR := $(PARTS) -m "clock and not servers" -k "not times_as_much"

calendar: leap-day last-minute ## Run the tests that read the clock as if it were two other days; -j2 runs both at once

leap-day: setup
	$(VENV)/bin/python -m tests.support.on_day 2028-02-29T12:00 UTC $(CALENDAR)

last-minute: setup
	$(VENV)/bin/python -m tests.support.on_day 2027-12-31T23:59 Etc/GMT+12 $(CALENDAR)

coverage: setup ## Run the same with a count of the lines they reach; twice as slow
	$(VENV)/bin/pytest $(PARTS) --cov --cov-report=term:skip-covered

system: setup ## Run the tests of the whole: its processes on every stack, and through every fault; half an hour
	$(VENV)/bin/pytest $(SYSTEM)

kits: ## Install what the tests in Node.js need, with npm (they are skipped without, unless CI is set)
	cd examples/consumers/node && npm ci --ignore-scripts
	cd tests/interfaces/contracts/javascript && npm ci --ignore-scripts

lint: setup ## Check format, lint, types and import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fix: setup ## Mend what the formatter and the linter can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

semgrep: .semgrep/ready ## Hold the code to rules of our own that follow a value; nothing is asked or told over the network
	$(SEMGREP) scan --test $(QUIETLY) --config .ci/semgrep/rules.yaml .ci/semgrep/rules.py
	$(SEMGREP) scan --error --oss-only --no-git-ignore $(QUIETLY) --config .ci/semgrep/rules.yaml config pipeline tasks

sbom: setup ## Write sbom.json: every package of the environment, as CycloneDX, without asking anybody
	$(VENV)/bin/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-format JSON --output-file sbom.json

fuzz: setup ## Look for half an hour for what the API and its parsers trip over
	$(VENV)/bin/pytest -m long tests/interfaces/api tests/system/acceptance/test_api_schema.py

contracts: setup ## Publish what was added to the schemas of messages, bodies and answers; refuses what breaks
	$(VENV)/bin/python -m tests.interfaces.contracts.published

docs: setup ## Write the tables of docs/ that come from settings, commands, exit codes and customs rules
	$(VENV)/bin/python -m tests.support.doc_tables

money: setup ## Hold ten thousand random invoices to the promises of money and weight; nine minutes of one processor
	$(VENV)/bin/pytest -m long tests/system/money

model: setup ## Lead two thousand random lives of exports through crashes and losses, every promise held after each step; takes most of an hour
	$(VENV)/bin/pytest -m long tests/system/model

faults: setup ## Put the service through every fault on every stack, each by itself; takes an hour or two
	$(VENV)/bin/pytest -m "long or not long" tests/system/faults

soak: setup ## Load and break the whole service for MINUTES (30); an even SEED is on Redis, an odd one on RabbitMQ; writes var/soak; PAUSE="3 6" is between two faults
	$(VENV)/bin/python -m tests.system.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(PAUSE),--pause $(PAUSE))

bench: setup ## Measure; prints ratios
	$(VENV)/bin/python -m tests.system.benchmarks

ci: ## Run all that must pass before a change lands (installs servers with apt where they are missing)
	.ci/run

clean: ## Remove what the targets above made
	rm -rf examples/consumers/node/node_modules tests/interfaces/contracts/javascript/node_modules .venv .venv-* .uv .semgrep sbom.json .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/ready: pyproject.toml uv.lock $(if $(filter .uv/%,$(UV)),.uv/bin/uv)
	@$(need_python)
	$(UV) sync --locked --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

.semgrep/ready: .ci/semgrep/requirements.txt $(if $(filter .uv/%,$(UV)),.uv/bin/uv)
	@$(need_python)
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .semgrep
	$(UV) pip install --quiet --python .semgrep/bin/python --require-hashes --only-binary :all: -r .ci/semgrep/requirements.txt
	@touch $@

# Where pip cannot make an environment of its own (Debian without python3-venv), it may still put uv into a folder.
.uv/bin/uv: .ci/uv.txt
	@$(need_python)
	@rm -rf .uv
	@{ $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r .ci/uv.txt; } || \
	  { rm -rf .uv && $(PYTHON) -m pip install --quiet --target .uv --require-hashes --only-binary :all: -r .ci/uv.txt; } || \
	  { rm -rf .uv; echo "$(PYTHON) has neither venv nor pip. Install one (Debian, Ubuntu: apt install python3-venv), or uv $(UV_VERSION)." >&2; exit 1; }
