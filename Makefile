# The commands of the project. Everything runs in .venv, which each target makes and fills by itself;
# needed on the machine: Rust, Python 3.10 or newer, make.
#
# A target's line ends in `## DURATION | What it does`, for `make help`. Where it needs more than the
# package, it depends on .venv/with-EXTRA, EXTRA being one of the extras in pyproject.toml.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Without pip's own news, and without compiling modules that are never imported.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_COMPILE=0 $(BIN)/python -m pip install --quiet
# Of pytest: a process for each CPU. And what `make test-fast` leaves out: processes, other libraries,
# searches, and float64 where float32 has the same test.
PARALLEL := -n logical --dist loadgroup -p no:benchmark
FAST := $(addprefix --ignore=tests/test_,$(addsuffix .py,autograd bench benches demo disk examples fuzz interop \
	isa machine memory mpi peers processes resuming rich run shard_checkpoint sharded sklearn sklearn_adam \
	thinc workers)) \
	$(addprefix --ignore=python/instep/,autograd.py bench demo mpi.py rich.py sklearn.py thinc.py) \
	-k "not python_blocks and not any_values and not hard_values and not million and not baseline \
	and not every_instruction_level and not every_length_and_layout and not without_memory and not resident_set and not 300_steps \
	and not (float64 and (test_bits or test_optimizers or test_rule_formulas or test_checkpoint))"
NATIVE := Cargo.toml Cargo.lock $(shell find src -name '*.rs')

.PHONY: help
help:  ## 0 s | Show this list
	@echo "On two cores, with all of it installed and built; that takes 90 s the first time."
	@sed -nE 's/^([a-z-]+):.*## *([^|]*)\| */\1\t\2\t/p' $(MAKEFILE_LIST) | expand -t 18,28

$(BIN)/maturin:
	$(PYTHON) -m venv .venv
	$(PIP) "maturin>=1.16,<2" numpy

# The package, editable, compiled with the profile `quick` of Cargo.toml. Of two cores, that needs one for
# part of the time, so the packages MEANWHILE come beside it. What fails in that fails again in .venv/with-%.
.venv/built: $(BIN)/maturin pyproject.toml $(NATIVE)
	$(if $(MEANWHILE),$(PIP) $(MEANWHILE) &) . $(BIN)/activate && \
		PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 maturin develop --quiet; built=$$?; wait; exit $$built
	@touch $@

# The package with one of its extras.
.venv/with-%: pyproject.toml | .venv/built
	$(PIP) "instep[$*]"
	@touch $@

.PHONY: build
build: .venv/built  ## 1 s | Build the package into .venv, editable

.PHONY: demo
demo: MEANWHILE = $(shell sed -n 's/^demo = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ,)
demo: .venv/with-demo  ## 10 s | Train a network on real data, with NumPy and with instep
	$(BIN)/python -m instep demo

.PHONY: test
test: .venv/with-test  ## 6 min | Run every test, Rust and Python, docstring examples included
	cargo test --quiet
	$(BIN)/python -m pytest $(PARALLEL)

.PHONY: test-fast
test-fast: .venv/with-test-fast  ## 1 min | Run the tests that find most, for the loop of work
	$(BIN)/python -m pytest $(PARALLEL) $(FAST)

SECONDS ?= 60
.PHONY: fuzz
fuzz: .venv/with-test-fast  ## 1 min | Try random steps against the reference: SECONDS=600, or SEED=3 CASE=41
	$(BIN)/python tests/fuzz.py --seconds $(SECONDS) $(SEED:%=--seed %) $(CASE:%=--case %)

.PHONY: fuzz-checkpoints
fuzz-checkpoints: .venv/with-fuzz-checkpoints  ## 1 min | Try files of any content with load, guided by coverage: SECONDS=300
	$(BIN)/python tests/fuzz_checkpoints.py --seconds $(SECONDS) $(SEED:%=--seed %) $(FILE:%=--again %)

# Arrays from malloc itself, so that each ends where its memory ends; and no threads of OpenBLAS.
VALGRIND := PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 valgrind --quiet --error-exitcode=1 \
	--suppressions=tests/valgrind.supp
.PHONY: valgrind
valgrind: .venv/with-test-fast  ## 3 min | Run steps of every rule under memcheck; needs Valgrind
	INSTEP_ISA=baseline $(VALGRIND) $(BIN)/python tests/memcheck_steps.py 20
	$(VALGRIND) $(BIN)/python tests/memcheck_steps.py 20

# A sanitizer is not a stable feature of rustc, though what it takes comes along; GCC has the runtime.
HOST = $(shell rustc -vV | sed -n 's/host: //p')
ASAN := target/asan/package
.PHONY: asan
asan: .venv/with-test-fast  ## 4 min | Run steps of every rule under AddressSanitizer; needs GCC's libasan
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo build --quiet --locked --profile quick \
		--features python --target $(HOST) --target-dir target/asan
	rm -rf $(ASAN) && mkdir -p $(ASAN) && cp -R python/instep $(ASAN)/ && rm -f $(ASAN)/instep/*.so
	cp target/asan/$(HOST)/quick/libinstep.so $(ASAN)/instep/_instep.abi3.so
	LD_PRELOAD=$$(realpath $$($(CC) -print-file-name=libasan.so)) ASAN_OPTIONS=detect_leaks=0 \
		PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 PYTHONPATH=$(ASAN) $(BIN)/python tests/memcheck_steps.py 20

.PHONY: sklearn-host
sklearn-host: .venv/with-test  ## 1 min | Run scikit-learn's own tests with instep's estimators, and with its patch
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.sklearn_host subclass
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.sklearn_host patch

.PHONY: verify-roots
verify-roots:  ## 2 min | Check hundreds of millions of quick roots and quotients
	cargo test --release --lib -- --ignored verify_

.PHONY: random-rules
random-rules: .venv/with-test  ## 3 h | Compare a million random rules of users' own with NumPy, in every bit
	RANDOM_RULES=1000000 $(BIN)/python -m pytest tests/test_random_rules.py -k random -p no:benchmark

.PHONY: bench
bench: .venv/with-bench  ## 10 min | Time the course's NumPy loop against instep, and every recipe against the limit
	@mkdir -p benches/results
	$(BIN)/python -m pytest benches --benchmark-columns=median,iqr,rounds \
		--benchmark-json=benches/results/benches.json
	$(BIN)/python -m benches.plot_course benches/results/benches.json benches/results/course.png

.PHONY: figures
figures: .venv/with-bench  ## 10 min | Time every recipe on a quiet machine, and write docs/figures.md
	@mkdir -p benches/results
	$(BIN)/python -m pytest benches/test_recipes.py benches/test_extras.py benches/test_small_arrays.py \
		--benchmark-columns=median,iqr,rounds --benchmark-json=benches/results/figures.json
	$(BIN)/python -m benches.figures benches/results/figures.json docs/figures.md

.PHONY: quality
quality: .venv/with-demo .venv/with-bfloat16  ## 5 min | Train two problems in every storage, and print the losses
	$(BIN)/python -m benches.storage_quality

.PHONY: layouts
layouts: .venv/with-bench  ## 3 min | Time arrays of every layout on a quiet machine, and write docs/layouts.md
	@mkdir -p benches/results
	INSTEP_NUM_THREADS=1 $(BIN)/python -m pytest benches/test_layouts.py \
		--benchmark-columns=median,iqr,rounds --benchmark-json=benches/results/layouts.json
	$(BIN)/python -m benches.figures benches/results/layouts.json docs/layouts.md

.PHONY: trajectories
trajectories: .venv/with-peers  ## 1 min | Make the stored values of the peers again
	$(BIN)/python tests/trajectories/make_schedules_optax.py
	$(BIN)/python tests/trajectories/make_optimizers_optax.py

# torch's package brings several GB for GPUs, which nothing here uses: an environment of its own.
.venv-torch/built: pyproject.toml $(NATIVE)
	$(PYTHON) -m venv .venv-torch
	PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-torch/bin/python -m pip install --quiet --editable ".[torch-host]"
	@touch $@

.PHONY: torch-host
torch-host: .venv-torch/built  ## 2 min | Check instep.torch against torch itself, in 5 GB of its own: .venv-torch
	.venv-torch/bin/python -m pytest --override-ini=addopts= tests/torch_host/*_check.py
	.venv-torch/bin/python -m pytest --override-ini=addopts= --doctest-modules python/instep/torch

.PHONY: docs
docs: .venv/with-docs  ## 20 s | Build the pages of the documentation, docs/_build/html/index.html
	rm -rf docs/api docs/_build
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

# Asked for a tag that PyPI takes, maturin finds the oldest Linux that the library runs on; pip never asks.
dist/built: $(BIN)/maturin pyproject.toml $(NATIVE) README.md $(wildcard LICENSE-*) $(shell find python -name '*.py*')
	rm -rf dist
	$(BIN)/maturin build --quiet --locked --compatibility pypi --compression-level 9 --out dist
	@touch $@

.PHONY: wheel
wheel: dist/built .venv/with-wheel  ## 8 min | Build the wheel, dist/*.whl, and try it with the newest NumPy and the oldest
	$(BIN)/python -m pytest tests/wheel_check.py

.PHONY: old-cpu
old-cpu: dist/built .venv/with-wheel  ## 3 min | Try the wheel on a CPU without AVX, emulated by qemu-x86_64
	$(BIN)/python -m pytest tests/old_cpu_check.py

.PHONY: lint
lint: .venv/with-lint  ## 1 min | Check formatting, lints, types and stubs
	cargo fmt --check
	cargo clippy --quiet --all-targets --features python -- --deny warnings
	cargo clippy --quiet --all-targets -- --deny warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/stubtest instep._instep

.PHONY: format
format: .venv/with-format  ## 2 s | Format all sources
	cargo fmt
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: clean
clean:  ## 1 s | Remove what the other targets made
	rm -rf .venv .venv-torch target dist docs/_build docs/api
