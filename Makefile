# make demo | test | check | bench | clean. Every target does its own set-up; set-up runs once.
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.rlco-setup
export MUJOCO_GL ?= egl
# Threads that wait for work must not spin: worker processes need the cores.
export OMP_WAIT_POLICY ?= passive
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: setup demo test check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh
	@touch $@

demo: setup  ## record, generate, train, evaluate, report: finished stages are kept
	@$(BIN)/rlco demo

test: setup  ## everything CI runs
	@$(MAKE) --no-print-directory check

check:  ## lint, types, layers, tests (needs `make setup`)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest $(PYTEST_ARGS) -m "not gpu and not multi_gpu"

bench: setup  ## every benchmark, compared with its bound in the same run
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## remove the environment and caches; keeps runs/
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
