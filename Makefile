# Every target makes what it needs. PYTHON may name another Python, 3.11 or newer.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.stamp

.PHONY: help setup demo test check bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install everything under constraints.txt

# torch by itself first: asked for as a dependency, pip would look for its newest build.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test,check]'
	@touch $@

demo: $(STAMP) ## train plain and regularized neural ODEs on MNIST and print the table (about 4 minutes)
	$(BIN)/solvertap compare mnist --method vanilla --method local-error --out results/demo \
		--epochs 10 --batch-size 256 --tolerance 1e-7 --error-weight 1:0.1

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: $(STAMP) ## measure what observing costs, as ratios to the bare framework (about 4 minutes)
	$(BIN)/python -m solvertap.experiments.overhead

docs: $(STAMP) ## write the generated documents anew
	$(BIN)/python docs/definitions.py
	$(BIN)/python -m tests.support_table

check: $(STAMP) ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright

clean: ## remove the environment and everything measured
	rm -rf .venv results
