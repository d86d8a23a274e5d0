# README.md has the same as plain commands, for Windows, but of agents checkov exit bench lock clean.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RECIPE ?= laptop
SET ?=
PORT ?= 8080
SLOW ?= slow
PYTEST := $(RUN) -m pytest --dist loadscope --no-loadscope-reorder
PIP = $(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps
# uv takes seconds where pip takes minutes, but reads no pip.conf: where it fails, pip has its turn.
INSTALL = @UV_SYSTEM_CERTS=1 $(VENV)/bin/uv pip install --quiet --python $(2) --no-deps -r $(1) \
	|| { echo "uv could not install $(1): once more with pip"; $(call PIP,$(2)) -r $(1); }
# torch is what the machine needs, so it is in no lock: setup/install_torch.py, TORCH_INDEX=URL.
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--upgrade --no-emit-package torch --constraints requirements-torch.txt
# A program that no machine must have: without it one line says what was not looked at.
IF_THERE = @if ! test -x $(1); then echo "$(notdir $(1)) is not installed and was not run; to install it: make $(2)"; else $(1)
OPTIONS := --recipe $(RECIPE) $(foreach value,$(SET),--set $(value))

.DEFAULT_GOAL := help
.PHONY: help demo finetune evaluate chat compare stop agents checkov exit test slow check bench lock clean

help:            ## list the targets; RECIPE=, SET="endpoint.port=8009 …" and PORT= (of the page) change them
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/.packages             ## set up, answer, fine-tune, deploy beside the base model, compare on 80 test rows
	$(RUN) -m evaluation demo $(OPTIONS)

finetune: $(VENV)/.installed        ## fine-tune and register a version; RECIPE=phi-gpu for a larger model
	$(RUN) -m setup data $(OPTIONS)
	$(RUN) -m setup finetune $(OPTIONS)
	$(RUN) -m setup register $(OPTIONS)

evaluate: $(VENV)/.installed        ## base against tuned on the whole test split, with a report
	$(RUN) -m setup deploy $(OPTIONS)
	$(RUN) -m setup connect $(OPTIONS)
	$(RUN) -m evaluation run $(OPTIONS)

chat: $(VENV)/.installed            ## chat with the deployed model in the browser
	$(RUN) -m setup deploy $(OPTIONS)
	$(RUN) -m setup connect $(OPTIONS)
	$(RUN) -m setup chat --port $(PORT)

compare: $(VENV)/.installed         ## one question to base and tuned, side by side in the browser
	$(RUN) -m setup deploy $(OPTIONS)
	$(RUN) -m setup compare $(OPTIONS)

stop: $(VENV)/.installed            ## stop the endpoint
	$(RUN) -m setup stop $(OPTIONS)

agents: $(VENV)-agents/.installed   ## the environment of flows/chat_agent: Agent Framework, which promptflow excludes

checkov: $(VENV)-checkov/.installed ## the environment of checkov, which reads the templates of Azure in make check

exit: $(VENV)-exit/.installed $(VENV)/.installed-dev  ## prove that nothing needs Prompt flow, in an environment without it
	$(RUN) -m pytest -q tests/evaluation/exit

test: $(VENV)/.installed-dev        ## set up and pass the tests
	$(RUN) -m tests.browser.chromium
	-$(RUN) -m tests.azure.azurite
	$(PYTEST) -n 3 -m "not slow"

slow: $(VENV)/.installed-dev        ## the tests that take minutes each: kills, resumes, load, real answers
	$(PYTEST) -n 2 -m "$(SLOW)"

check: $(VENV)/.installed-dev       ## lint, format, types, Python 3.9 for uploads, imports, workflows, Dockerfiles
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/vermin --quiet --target=3.9- --no-tips --violations flows
	$(VENV)/bin/lint-imports
	$(call IF_THERE,$(VENV)/bin/zizmor,-B $(VENV)/.installed-dev) --offline --quiet --no-progress .github/workflows; fi
	$(call IF_THERE,$(VENV)/bin/hadolint,-B $(VENV)/.installed-dev) --failure-threshold warning $$(git ls-files '*Dockerfile'); fi
	$(call IF_THERE,$(VENV)-checkov/bin/checkov,checkov) --config-file setup/azure/provision/infra/.checkov.yaml; fi

bench: $(VENV)/.installed-dev       ## the ratios of benchmarks/README.md (an idle machine, twenty minutes)
	$(RUN) -m benchmarks.endpoint
	$(RUN) -m benchmarks.data
	$(RUN) -m benchmarks.finetune
	$(RUN) -m benchmarks.batch
	$(RUN) -m benchmarks.compare

lock: $(VENV)/.installed-dev        ## write the lock of every platform anew
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) --no-deps --constraints requirements.txt requirements-exit.in -o requirements-exit.txt
	$(LOCK) requirements-checkov.in -o requirements-checkov.txt
	$(LOCK) --prerelease=if-necessary-or-explicit flows/chat_agent/requirements.in -o flows/chat_agent/requirements.txt

clean:           ## remove what is written in this folder (models, endpoint state and runs stay)
	rm -rf $(VENV) $(VENV)-agents $(VENV)-checkov $(VENV)-exit .pytest_cache .mypy_cache .ruff_cache data/prepared tests/artefacts flows/*/.promptflow flows/*/process_log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.packages: requirements.txt
	$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > $(VENV)/uv.txt
	-@$(call PIP,$(VENV)) -r $(VENV)/uv.txt
	$(call INSTALL,requirements.txt,$(VENV))
	touch $@

$(VENV)/.installed: $(VENV)/.packages requirements-torch.txt
	$(RUN) -m setup.install_torch
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(call INSTALL,requirements-dev.txt,$(VENV))
	touch $@

$(VENV)-agents/.installed: $(VENV)/.installed flows/chat_agent/requirements.txt
	$(RUN) -m venv $(VENV)-agents
	$(call INSTALL,flows/chat_agent/requirements.txt,$(VENV)-agents)
	touch $@

$(VENV)-checkov/.installed: $(VENV)/.installed-dev requirements-checkov.txt
	$(RUN) -m venv $(VENV)-checkov
	$(call INSTALL,requirements-checkov.txt,$(VENV)-checkov)
	touch $@

$(VENV)-exit/.installed: $(VENV)/.installed requirements-exit.txt
	$(RUN) -m venv $(VENV)-exit
	@awk '/^[a-z]/ {skip = /^promptflow/} !skip' requirements.txt > $(VENV)-exit/requirements.txt
	$(call INSTALL,$(VENV)-exit/requirements.txt,$(VENV)-exit)
	$(call INSTALL,requirements-exit.txt,$(VENV)-exit)
	touch $@
