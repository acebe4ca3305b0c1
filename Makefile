# What a person types. Everything runs in .venv, which each target makes and fills by itself;
# needed on the machine: Rust, Python 3.10 or newer, make.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
NATIVE := Cargo.toml Cargo.lock $(shell find src -name '*.rs')

.PHONY: help
help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

$(BIN)/maturin:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "maturin>=1.16,<2"

# The package in .venv, editable, with the extras of every target.
.venv/built: $(BIN)/maturin pyproject.toml $(NATIVE)
	. $(BIN)/activate && PIP_QUIET=1 maturin develop --release --quiet
	$(BIN)/python -m pip install --quiet "instep[dev]"
	@touch $@

.PHONY: build
build: .venv/built  ## Build the package into .venv, editable

.PHONY: demo
demo: .venv/built  ## Train a network on real data, with NumPy and with instep
	$(BIN)/python -m instep demo

.PHONY: test
test: .venv/built  ## Run every test, Rust and Python, docstring examples included
	cargo test --quiet
	$(BIN)/python -m pytest

.PHONY: verify-roots
verify-roots:  ## Check hundreds of millions of quick roots and quotients: minutes
	cargo test --release --lib -- --ignored verify_

.PHONY: bench
bench: .venv/built  ## Time the course's NumPy loop against instep, and every recipe against the limit
	@mkdir -p benches/results
	$(BIN)/python -m pytest benches --benchmark-columns=median,iqr,rounds \
		--benchmark-json=benches/results/benches.json
	$(BIN)/python -m benches.plot_course benches/results/benches.json benches/results/course.png

.PHONY: figures
figures: .venv/built  ## Time every recipe on a quiet machine, and write docs/figures.md
	@mkdir -p benches/results
	$(BIN)/python -m pytest benches/test_recipes.py benches/test_extras.py benches/test_small_arrays.py \
		--benchmark-columns=median,iqr,rounds --benchmark-json=benches/results/figures.json
	$(BIN)/python -m benches.figures benches/results/figures.json docs/figures.md

.PHONY: trajectories
trajectories: .venv/built  ## Make the stored values of the peers again
	$(BIN)/python tests/trajectories/make_schedules_optax.py
	$(BIN)/python tests/trajectories/make_optimizers_optax.py

.venv/docs: .venv/built
	$(BIN)/python -m pip install --quiet "instep[docs]"
	@touch $@

.PHONY: docs
docs: .venv/docs  ## Build the pages of the documentation, docs/_build/html/index.html
	rm -rf docs/api docs/_build
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

dist/built: .venv/built README.md $(wildcard LICENSE-*) $(shell find python backend -name '*.py*')
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet . --no-deps --wheel-dir dist
	@touch $@

.PHONY: wheel
wheel: dist/built  ## Build the wheel, dist/*.whl, and try it with the newest NumPy and the oldest
	$(BIN)/python -m pytest tests/wheel_check.py

.PHONY: old-cpu
old-cpu: dist/built  ## Try the wheel on a CPU without AVX, emulated by qemu-x86_64
	$(BIN)/python -m pytest tests/old_cpu_check.py

.PHONY: lint
lint: .venv/built  ## Check formatting, lints, types and stubs
	cargo fmt --check
	cargo clippy --quiet --all-targets --features python -- --deny warnings
	cargo clippy --quiet --all-targets -- --deny warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/stubtest instep._instep

.PHONY: format
format: .venv/built  ## Format all sources
	cargo fmt
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: clean
clean:  ## Remove what the other targets made
	rm -rf .venv target dist docs/_build docs/api
