# Each target installs what it needs and can be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export DBMAINT_INSECURE ?= 1
# Every test starts processes: each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
# Tests with servers wait half of their time.
SIDE_BY_SIDE := -n 4 --dist worksteal

.PHONY: help demo serve test test-quick test-field test-mysql lint bench chaos clean packages test-packages messages requirements

help:
	@sed -n 's/^## //p' Makefile

packages:
	@sh deploy/packages.sh

test-packages:
	@sh deploy/packages.sh chromium=chromium npm=npm age=age redis-server=redis-server \
	  prometheus=prometheus prometheus-alertmanager=prometheus-alertmanager systemd=systemd-analyze \
	  prometheus-postgres-exporter=prometheus-postgres-exporter

# mysqlclient is compiled; where that cannot be, the rest is installed and MariaDB/MySQL are left out.
$(VENV)/.installed: requirements.txt | packages
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt || { \
	  echo "Trying without mysqlclient: MariaDB and MySQL will not be available." >&2; \
	  grep -v '^mysqlclient' requirements.txt > $(VENV)/without-mysql.txt && \
	  $(BIN)/pip install -q --disable-pip-version-check -r $(VENV)/without-mysql.txt; }
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

messages: | packages
	@for po in locale/*/LC_MESSAGES/*.po; do test ! -e "$$po" || msgfmt -o "$${po%.po}.mo" "$$po"; done

## make demo    sets everything up and runs one emergency maintenance end to end
demo: $(VENV)/.installed messages
	@$(BIN)/python -m demo

## make serve   web console and worker, with demo logins
serve: $(VENV)/.installed messages
	@$(BIN)/python -m demo.serve

# Tests with servers wait half of their time: twice as many as there are processors.
## make test    sets up and runs the tests but the rare ones; test-quick only a sample of those without servers
test: test-packages $(VENV)/.installed-dev messages
	@sh deploy/postgresql.sh $(VENV)/postgresql || echo "Going on without further versions of PostgreSQL." >&2
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not rare" --ignore=tests/field tests

test-quick: $(VENV)/.installed-dev messages
	@DBMAINT_SAMPLE=10 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not long and not rare" tests/unit tests/web

## make test-field  the rest: cases from the field, and what is long and rare of the other tests
test-field: test-packages $(VENV)/.installed-dev messages
	@sh deploy/postgresql.sh $(VENV)/postgresql || echo "Going on without further versions of PostgreSQL." >&2
	@sh deploy/sqlite.sh $(VENV)/sqlite || echo "Going on with the shell sqlite3 of this system, and without SQLite's corpus." >&2
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m rare tests

## make test-mysql  fetches MySQL's own server into a folder and runs its tests; make test reports them as not run
test-mysql: test-packages $(VENV)/.installed-dev messages
	@home=$$(sh deploy/mysql.sh) && DBMAINT_MYSQL_HOME=$$home $(BIN)/python -m pytest -n 2 -m mysql tests/engines tests/acceptance tests/security tests/field

## make lint    format, style, types, imports, settings, migrations, known vulnerabilities of the dependencies
lint: $(VENV)/.installed-dev messages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports
	@$(BIN)/djlint templates --check --lint --quiet
	@DBMAINT_INSECURE=0 $(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(BIN)/python manage.py makemigrations --check --dry-run
	@$(BIN)/pip check
	@$(BIN)/python deploy/audit.py

## make chaos   dies at every write on every path, then recovers; also real processes on real servers
chaos: test-packages $(VENV)/.installed-dev messages
	@DBMAINT_CRASH_STRIDE=1 $(BIN)/python -m pytest -n 2 tests/unit/test_crashes.py -v
	@$(BIN)/python -m chaos $(CHAOS)

## make bench   what a maintenance costs beside the database's own programs, as ratios; BENCH="--sizes 0.1,1,4"; verdicts: BENCH="--part aa --runs 34"
bench: $(VENV)/.installed messages
	@sh deploy/sqlite.sh $(VENV)/sqlite || echo "Rows saved are compared with the shell sqlite3 of this system." >&2
	@$(BIN)/python -m bench $(BENCH)

## make requirements  pins the dependencies anew
requirements: $(VENV)/.installed-dev
	@$(BIN)/pip-compile -q --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header requirements.in -o requirements.txt
	@$(BIN)/pip-compile -q --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header requirements-dev.in -o requirements-dev.txt

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache
