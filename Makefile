# The few things one does with this repository; everything else is manage.py.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install run quick t test test-long cov mutate debug lab chaos lint picture lock

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMP)  ## start the whole desk on this machine (simulated market, no keys)
	@$(BIN)/python manage.py up

quick: $(STAMP)  ## lint of what changed, contracts, types, pure tests without servers: seconds
	@$(BIN)/python -m tests.quick

t: $(STAMP)  ## the tests of a folder or file (P=bots/execution or P=markets/store.py)
	@tests=$$($(BIN)/python -m tests.mirror $(P)) && $(BIN)/python -m pytest $$tests

test: $(STAMP) lint  ## lint, types, import contracts, then every test on real servers
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(STAMP)  ## a hundred thousand random schedules of the order protocol
	NIGHTDESK_SCHEDULES=100000 $(BIN)/python -m pytest tests/bots/execution/test_protocol.py

mutate: $(STAMP)  ## change a module in small ways; a limit's tests must notice each (P=limits)
	$(BIN)/python -m tests.mutate $(or $(P),limits risk)

cov: $(STAMP)  ## what the tests run, branches too, the processes they start included (P=bots)
	@mkdir -p var/coverage
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(if $(P),$(addprefix tests/,$(P)))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(P),--include='$(addsuffix /*,$(P))')

debug: $(STAMP)  ## the desk without a service, and that one under pdb (S=nifty-bot; PORT=5678: debugpy)
	@$(BIN)/python -m tests.debug $(S) $(PORT)

lab: $(STAMP)  ## PROD and PC as two machines, and what breaks between them (needs root)
	NIGHTDESK_LAB=1 REQUIRE_TOOLS=1 $(BIN)/python -m pytest tests/lab

chaos: $(STAMP)  ## break a running desk in every known way, and what came of it (15 minutes at most)
	$(BIN)/python -m tests.chaos $(P)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy .

picture: $(STAMP)  ## draw docs/architecture.svg from the folders and their imports
	@$(BIN)/python -m tests.picture

install: $(STAMP)  ## make .venv and install the locked requirements and the front end

$(STAMP): requirements/dev.txt package-lock.json
	@sh requirements/venv.sh $(VENV)
	@echo "Installing the locked requirements into $(VENV): about 2 GB, a minute or three ..."
	@$(BIN)/python -m pip install --quiet --requirement requirements/dev.txt
	@sh requirements/frontend.sh $(BIN)/python
	@touch $@
	@echo "Installed."

lock: $(STAMP)  ## resolve requirements/*.in anew into their locked .txt
	sh requirements/lock.sh $(BIN)/python
