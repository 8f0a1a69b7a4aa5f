# The targets of the project; `make` without a target prints the list.

PYTHON ?= python3
VENV   ?= .venv
SHARE  ?= 40

UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' .ci/uv.txt)
UV         := $(shell uv --version 2>/dev/null | grep -q '^uv $(UV_VERSION)\b' && echo uv || echo .uv/bin/uv)

# CI also has the group `charts`; once installed, it stays.
CHARTS := $(if $(CI)$(wildcard $(VENV)/ready-with-charts),charts)
READY  := $(VENV)/ready$(CHARTS:%=-with-%)

# uv only downloads packages, never a Python: it uses the one that is installed.
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(VENV)

# Without compiled modules, each process of the tests compiles a thousand of them and takes three times as long to start.
unexport PYTHONDONTWRITEBYTECODE

define need_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "$(PYTHON) must be Python 3.11 or later; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
endef

# The tests of the whole service; those of the parts are divided by their marks, which pyproject.toml describes.
SYSTEM := tests/system
PARTS  := --ignore=$(SYSTEM) -m "not (pages or system or twins)"
# A process that has nothing left takes tests from the other.
ON_TWO := -n 2 --dist worksteal
# Each stack has a process of its own: most of these tests wait for leases and deadlines.
BY_STACK := -n 3 --dist loadgroup

# Its settings and log stay in its own folder, and it sends nothing.
SEMGREP := SEMGREP_SETTINGS_FILE=.semgrep/settings.yml SEMGREP_LOG_FILE=.semgrep/log .semgrep/bin/semgrep
QUIETLY := --metrics=off --disable-version-check

# The folder of the TypeScript client, and the tools that build it.
CLIENT    := clients/typescript
NPM_READY := $(CLIENT)/node_modules/.package-lock.json

.PHONY: help setup demo kits wheel test reached pages pictures readme calendar days leap-day leap-day-others coverage system lint fix semgrep audit sbom release fuzz contracts rules-id client fonts site money model faults soak bench ci clean
.DEFAULT_GOAL := help

help: ## Print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Make the virtual environment with the locked dependencies

demo: setup ## Run three example plans through every part on this machine and show the results
	@$(VENV)/bin/exports demo

test: setup ## Run the tests of all parts (tests of servers that are not installed are skipped, unless CI is set)
	$(VENV)/bin/pytest $(ON_TWO) $(PARTS)

reached: setup ## Run the tests that a change reaches by imports, the nearest first; takes at most two minutes
	$(VENV)/bin/python -m tests.support.reached $(ON_TWO) $(PARTS)

mutants: setup ## Put small faults into one in SHARE places of six packages, and name those that no test sees
	$(VENV)/bin/python -m tests.support.mutants $(SHARE)

pages: setup ## Run the tests of console and portal in a browser; takes four minutes
	$(VENV)/bin/pytest $(ON_TWO) -m pages tests/interfaces

# The tests that read the clock, but those of programs and browsers. Those of plans, also with a server's clock, on the coming
# days on which a fixed date of a fixture matters; all without a server over the end of a leap day in the last time zone.
# How cost grows with the plan's size does not depend on the day. On PostgreSQL, the repetitions of workflow stand for all.
CALENDAR := -k "not times_as_much and (workflow or not twins)" -m
BY_CLOCK := clock and not pages and not system
OF_PLANS := $(addprefix tests/,customs deliveries exports interfaces ops orders simulation workflow)
OTHERS   := tests $(addprefix --ignore=,$(OF_PLANS) $(addprefix tests/system/,acceptance faults soak))
LEAP_DAY := TESTS_BEGIN=2028-02-29T23:59 TZ=Etc/GMT+12 $(VENV)/bin/pytest

days: setup ## Run the tests that read the clock on coming days and over a leap day, two at a time; takes three minutes
	@$(MAKE) -j2 --output-sync --no-print-directory \
	  $$($(VENV)/bin/python -m tests.support.calendar_days | sed 's/[^ ][^ ]*/on-&/g') leap-day leap-day-others

leap-day: setup
	$(LEAP_DAY) $(OF_PLANS) $(CALENDAR) "$(BY_CLOCK) and not servers"

leap-day-others: setup
	$(LEAP_DAY) $(OTHERS) $(CALENDAR) "$(BY_CLOCK) and not servers"

calendar: setup ## Run all tests on this day, and on each coming day that a fixture or a rule names; takes half an hour a day
	@for day in $$($(VENV)/bin/python -m tests.support.calendar_days now); do \
	  TESTS_BEGIN=$${day}T12:00Z $(MAKE) --no-print-directory test pages system || exit 1; done

on-%: setup
	TESTS_BEGIN=$*T12:00Z $(VENV)/bin/pytest $(OF_PLANS) $(CALENDAR) "$(BY_CLOCK)"

coverage: setup ## Run the same tests with line coverage; takes twice as long
	$(VENV)/bin/pytest $(ON_TWO) $(PARTS) --cov --cov-report=term:skip-covered

pictures: setup ## Keep a picture of each page of console and portal in var/pictures: desktop and phone, light and dark
	PICTURES=var/pictures $(VENV)/bin/pytest $(ON_TWO) tests/interfaces/console/test_console_layout.py tests/interfaces/portal/test_portal_layout.py

readme: setup ## Make the pictures of the README, with the data of the demo
	$(VENV)/bin/python -m tests.support.readme_pictures

system: setup ## Run the tests of the whole service: its processes on every stack, every fault, random scenarios and benchmarks; takes half an hour
	$(VENV)/bin/pytest $(ON_TWO) --ignore=$(SYSTEM) -m "(system or twins) and not pages"
	$(VENV)/bin/pytest $(BY_STACK) $(SYSTEM)

kits: .generators/ready $(NPM_READY) ## Install what the tests in Node.js and of generated clients need (without it they are skipped, unless CI is set)
	cd examples/consumers/node && npm ci --ignore-scripts
	cd tests/interfaces/api/javascript && npm ci --ignore-scripts
	cd tests/interfaces/contracts/javascript && npm ci --ignore-scripts
	cd tests/interfaces/console/javascript && npm ci --ignore-scripts

lint: setup ## Check format, lint, types and import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fix: setup ## Fix what the formatter and the linter can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

semgrep: .semgrep/ready ## Check the code against our own data-flow rules, without the network
	$(SEMGREP) scan --test $(QUIETLY) --config .ci/semgrep/rules.yaml .ci/semgrep/rules.py
	$(SEMGREP) scan --error --oss-only --no-git-ignore $(QUIETLY) --config .ci/semgrep/rules.yaml config pipeline tasks

audit: setup ## Ask the vulnerability databases OSV and npm about every locked package; needs the network
	$(UV) audit --locked
	cd clients/typescript && npm audit

sbom: setup ## Write sbom.json: every package of the environment, as CycloneDX, without the network
	$(VENV)/bin/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-format JSON --output-file sbom.json

wheel: setup ## Build what an installation by pip needs into dist: the wheel, and the exact dependencies with their hashes
	rm -rf dist && mkdir dist
	$(VENV)/bin/python -m hatchling build --target wheel --directory $(CURDIR)/dist
	$(UV) export --quiet --locked --no-default-groups --no-emit-project --no-header --output-file dist/requirements.txt

release: wheel site client ## Build what a release publishes into dist: packages for pip and npm, documentation, bill of materials, checksums
	$(VENV)/bin/python -m hatchling build --target sdist --directory $(CURDIR)/dist
	cd clients/python && $(CURDIR)/$(VENV)/bin/python -m hatchling build --directory $(CURDIR)/dist
	cd clients/typescript && npm run build && npm pack --ignore-scripts --pack-destination $(CURDIR)/dist
	$(VENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-format JSON --output-file dist/sbom.json dist/requirements.txt
	tar --create --gzip --file dist/exports-docs.tar.gz --directory var site
	cd dist && sha256sum * > SHA256SUMS

fuzz: setup ## Search for inputs that break the API and its parsers; takes half an hour
	$(VENV)/bin/pytest -m long tests/interfaces/api tests/system/acceptance/test_api_schema.py

contracts: setup ## Publish additions to the schemas of messages, bodies and answers; rejects breaking changes
	$(VENV)/bin/python -m tests.interfaces.contracts.published

rules-id: setup
	@test -n "$(ID)" || { echo "Name the new id: make rules-id ID=us-ca-2027-01-01 (and AS_OF=2027-01-01)" >&2; exit 2; }
	$(VENV)/bin/python -m tests.support.rules_id $(ID) $(AS_OF)
	@$(MAKE) --no-print-directory contracts

client: setup $(NPM_READY) ## Write the types and error codes of the TypeScript client, which git does not hold; needs Node.js
	$(VENV)/bin/python -m tests.support.typescript_client $(CLIENT)

fonts: setup ## Write the list of the characters that the fonts of the documents can print
	$(VENV)/bin/python -m tests.support.font_characters

SITE_FILES := LICENSE Procfile '*.md' 'docs/*' 'examples/*' 'clients/*' 'config/rules/*' 'config/monitoring/*' ':!templates' ':!tests/documents' ':!tests/interfaces'

site: setup ## Write the documentation as a site to var/site, with the tables that come from settings, commands and customs rules
	rm -rf var/site-source && mkdir -p var/site-source
	git ls-files -z -- $(SITE_FILES) | xargs -0 cp --parents --target-directory=var/site-source
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet

money: setup ## Check 10,000 random invoices against the rules of money and weight; takes nine minutes on one processor
	$(VENV)/bin/pytest -m long tests/system/money

model: setup ## Run 2,000 random crash scenarios and check every promise after each step; takes half an hour
	$(VENV)/bin/pytest -n 2 -m long tests/system/model

faults: setup ## Test every fault on every stack; takes an hour
	$(VENV)/bin/pytest $(BY_STACK) -m "long or not long" tests/system/faults

soak: setup ## Load and break the whole service for MINUTES (30); an even SEED uses Redis, an odd one RabbitMQ; PAUSE="3 6" sets the seconds between faults; writes var/soak
	$(VENV)/bin/python -m tests.system.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(PAUSE),--pause $(PAUSE))

bench: setup ## Measure the goals of speed, beside real peers; takes half an hour
	$(UV) sync --locked --group bench --quiet
	$(VENV)/bin/python -m tests.system.benchmarks

ci: ## Run all checks that must pass before a change lands (installs missing servers with apt)
	.ci/run

clean: ## Remove what the targets above created
	rm -rf dist clients/typescript/src/schema.ts clients/typescript/src/problems.ts clients/*/node_modules clients/*/dist examples/consumers/node/node_modules tests/interfaces/*/javascript/node_modules .venv .venv-* .uv .semgrep .generators sbom.json .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml uv.lock $(if $(filter .uv/%,$(UV)),.uv/bin/uv)
	@$(need_python)
	$(UV) sync --locked $(CHARTS:%=--group %) --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

$(NPM_READY): $(CLIENT)/package-lock.json
	cd $(CLIENT) && npm ci --ignore-scripts
	@touch $@

.generators/ready: .ci/generators/requirements.txt $(if $(filter .uv/%,$(UV)),.uv/bin/uv)
	@$(need_python)
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .generators
	$(UV) pip install --quiet --python .generators/bin/python --require-hashes --only-binary :all: -r .ci/generators/requirements.txt
	@touch $@

.semgrep/ready: .ci/semgrep/requirements.txt $(if $(filter .uv/%,$(UV)),.uv/bin/uv)
	@$(need_python)
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .semgrep
	$(UV) pip install --quiet --python .semgrep/bin/python --require-hashes --only-binary :all: -r .ci/semgrep/requirements.txt
	@touch $@

# If Python cannot create an environment (Debian without python3-venv), pip may still install uv into a folder.
.uv/bin/uv: .ci/uv.txt
	@$(need_python)
	@rm -rf .uv
	@{ $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r .ci/uv.txt; } || \
	  { rm -rf .uv && $(PYTHON) -m pip install --quiet --target .uv --require-hashes --only-binary :all: -r .ci/uv.txt; } || \
	  { rm -rf .uv; echo "$(PYTHON) must have venv or pip; install one (Debian, Ubuntu: apt install python3-venv), or uv $(UV_VERSION)." >&2; exit 1; }
