# Two commands do everything: `make run` and `make test`.
.PHONY: run test check bench pictures demo clean
.DEFAULT_GOAL := run

PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/.ready-run
TEST := .venv/.ready-test
BENCH := .venv/.ready-bench

run: $(RUN)  ## open the dashboard on http://localhost:8501
	$(BIN)/python -m dashboard

test: $(TEST)  ## all tests, two files side by side, one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(TEST)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

bench: $(BENCH)  ## speed and memory: ratios of the engine, percentiles of the dashboard
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.dashboard

pictures: $(TEST)  ## every page into assets/pictures
	$(BIN)/python -m tests.browser.pictures

demo: $(RUN)  ## recompute the bundled demo records
	$(BIN)/python assets/make_demo.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# The environment is rebuilt only when one of the two requirement files changes.
$(RUN): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "GIF Studio needs Python 3.11 or newer; '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv: torch alone is several GB, this takes a few minutes the first time."
	@$(PYTHON) -m venv .venv || { \
	  echo "No virtual environment could be made; on Debian: apt-get install python3-venv" >&2; \
	  exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(TEST): $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(BENCH): $(TEST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
