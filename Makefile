# Pushwire. `make demo` and `make test` need python3 (3.11+) and make, and set up the rest themselves.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test check lint format types imports unused unit coverage soak bench bench-topics bench-peers lock clean system-packages peer-packages

demo: $(VENV)/.runtime
	$(BIN)/pushwire demo

test: check unit

check: lint types imports unused

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/mypy tests

imports: $(VENV)/.dev
	$(BIN)/lint-imports

# Dead code, and dependencies that are missing or not needed.
unused: $(VENV)/.dev
	$(BIN)/vulture
	$(BIN)/deptry .

# As root on Debian what is missing of the packages is installed; elsewhere it is said, and what needs them is
# skipped. Services that come along are neither started nor enabled. Wants `missing` and `units` from the shell.
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=2 -o DPkg::Lock::Timeout=120
define INSTALL_MISSING
	if [ -z "$$missing" ]; then \
	  :; \
	elif [ "$$(id -u)" != 0 ] || ! grep -qs '^ID=debian$$' /etc/os-release; then \
	  echo "Not installed:$$missing. Only root on Debian can do it here; what needs them will be skipped."; \
	else \
	  echo "Installing$$missing by apt-get (once)…"; \
	  log="$$(mktemp)"; policy=; trap 'rm -f "$$log" $$policy' EXIT; \
	  if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    policy=/usr/sbin/policy-rc.d; printf '#!/bin/sh\nexit 101\n' >"$$policy"; chmod +x "$$policy"; \
	  fi; \
	  { $(APT) update; $(APT) install -y --no-install-recommends $$missing; } >"$$log" 2>&1 </dev/null \
	    || { tail -n 5 "$$log"; echo "Could not install$$missing."; }; \
	  for unit in $$units; do systemctl --quiet disable "$$unit" 2>"$$log" || :; done; \
	fi
endef

# Some tests drive a browser and Node (Debian 12's Node 18 will do).
system-packages:
	@missing=; units=; \
	command -v chromium google-chrome >/dev/null || missing+=" chromium"; \
	command -v node >/dev/null || missing+=" nodejs"; \
	$(INSTALL_MISSING)

# The servers that Pushwire is measured beside.
peer-packages:
	@PATH="$$PATH:/usr/sbin"; missing=; units=; \
	command -v mosquitto >/dev/null || { missing+=" mosquitto"; units+=" mosquitto"; }; \
	command -v nats-server >/dev/null || { missing+=" nats-server"; units+=" nats-server"; }; \
	command -v nginx >/dev/null || { missing+=" nginx-light"; units+=" nginx"; }; \
	[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing+=" libnginx-mod-nchan"; \
	$(INSTALL_MISSING)

unit: $(VENV)/.dev system-packages
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not soak"

# The suite once more, with what it reaches of the code; processes that a test kills tell nothing.
coverage: $(VENV)/.dev system-packages
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadgroup -m "not soak"
	-$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

# The long runs, and the property tests with random examples, 5,000 each.
soak: $(VENV)/.dev
	$(BIN)/pytest -m soak --timeout 3600
	HYPOTHESIS_PROFILE=soak $(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not soak" --timeout 3600 \
	  tests/unit tests/store

bench: $(VENV)/.dev
	$(BIN)/python -m loadtest.bench

bench-topics: $(VENV)/.dev peer-packages
	$(BIN)/python -m loadtest.bench topics

# The same work on Pushwire, mosquitto, NATS JetStream and nchan, side by side.
bench-peers: $(VENV)/.dev peer-packages
	$(BIN)/python -m loadtest.beside

lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" --quiet pyproject.toml --group build -o deploy/locks/runtime.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" --quiet pyproject.toml --group dev -o deploy/locks/dev.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pushwire needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: deploy/locks/runtime.txt pyproject.toml | $(VENV)/bin/python
	@echo "Setting up .venv (once)…"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/locks/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: deploy/locks/dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/locks/dev.txt
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
