# Two commands: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
JOBS ?= 2

.PHONY: demo test oldest wheel lint format keys docs clean viewer viewer-check

demo: $(VENV)/.installed
	$(BIN)/python pipelines/demo.py --out $(DEMO)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Where the CPU builds of torch are, a tenth of the others; empty for the package index alone.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
OLDEST ?= .venv-oldest
EMPTY ?= .venv-empty
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# The oldest releases that pyproject.toml admits, in an empty environment, on a painted slide.
oldest:
	rm -rf $(OLDEST)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet $(INDEX) --constraint constraints-oldest.txt .
	.ci/smoke $(OLDEST)/bin/python

# Builds the source archive and of it the wheel, and tries the wheel in an empty environment.
wheel: $(VENV)/bin/python
	rm -rf dist $(EMPTY)
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build
	$(PYTHON) -m venv $(EMPTY)
	$(EMPTY)/bin/python -m pip install --quiet $(INDEX) --constraint constraints.txt dist/*.whl
	.ci/smoke $(EMPTY)/bin/python

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV): 2 to 6 GB, minutes where torch is to be downloaded"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV): 2 to 6 GB, minutes where torch is to be downloaded"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/.installed

# The tables of options and keys in docs, from the fields of the settings.
keys: $(VENV)/.installed-dev
	$(BIN)/python -m wsi_sampath.cli.keys docs

# The site, into site/: strictly, and without a network.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@ $(VENV)/.installed

# The page of wsi-view, from pinned npm packages; the built files are committed.
PAGE := wsi_sampath/viewer
$(PAGE)/source/node_modules/.installed: $(PAGE)/source/package-lock.json
	npm ci --prefix $(PAGE)/source --ignore-scripts --no-audit --no-fund
	touch $@

viewer: $(PAGE)/source/node_modules/.installed
	npm run --silent --prefix $(PAGE)/source check
	npm run --silent --prefix $(PAGE)/source build

# Builds it once more, elsewhere, and compares every byte.
viewer-check: $(PAGE)/source/node_modules/.installed
	npm run --silent --prefix $(PAGE)/source check
	built="$$(mktemp -d)" && trap 'rm -rf "$$built"' EXIT && \
	    npm run --silent --prefix $(PAGE)/source build -- "$$built" && \
	    diff -r "$$built" $(PAGE)/static && echo "the built page is what its source makes"

clean:
	rm -rf $(VENV) $(OLDEST) $(EMPTY) dist $(DEMO) site $(PAGE)/source/node_modules .pytest_cache .mypy_cache .ruff_cache
