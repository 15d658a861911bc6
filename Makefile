# make demo: from nothing to a trained federation and its report. make test: the whole suite.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# CPU threads of the test workers: more than one each only makes them wait for one another.
export OMP_NUM_THREADS ?= 1

RUN ?=
# How many seeds a table has; empty: as many as it is published with.
SEEDS ?=
SEEDED = $(if $(SEEDS),--seeds $(SEEDS))
# A deployment mostly waits, so three workers keep two cores busy; long files first, no more than two
# deployments at once (tests/conftest.py).
PYTEST ?= -n 3 --dist loadfile --no-loadscope-reorder
DATA ?=
CIFAR := $(if $(DATA),$(wildcard $(DATA)/cifar10 $(DATA)/cifar-10-batches-bin))
LOOKS ?= outlined shrunk
GENERATORS := $(if $(DATA),runs/generators/garments runs/generators/garments-inverted+blurred) $(if $(CIFAR),runs/generators/objects-inverted+blurred)

.PHONY: help demo docker-demo install test lint format docs site constraints bench-digits bench-feddpd bench-holdings bench-limits bench-looks bench-mnist bench-real bench-rejections bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

demo: install ## install, run FedAvg and the default method on ten clients with extreme skew through Flower, one report side by side
	@$(BIN)/regl compare --methods fedavg,regl-dpd --seeds 0 --engine flwr --out runs/demo $(RUN)

docker-demo: ## a SuperLink and three clinics in containers; TLS=1 with keys; needs an engine
	@docker/demo.sh $(RUN)

install: $(VENV)/.installed ## virtual environment with the package and its dependencies

test: $(VENV)/.installed-test ## install the extras and pass the whole suite
	@$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.installed-test ## formatting, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.installed-test ## format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed ## write docs/configuration.md from regl_app/config/run_keys.py
	@$(BIN)/python .ci/config_docs.py

site: $(VENV)/.installed-docs ## the documentation as a site in .site/, every warning an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet -f .mkdocs.yml
	@echo "$(CURDIR)/.site/index.html"

constraints: $(VENV)/.installed-test ## pin what this environment holds: run it after testing
	@$(BIN)/python .ci/pin.py

bench: bench-digits bench-feddpd bench-holdings bench-limits bench-mnist bench-real bench-rejections $(if $(DATA),bench-looks) ## every table of README, docs/results.md, docs/feddpd-results.md and docs/teaching-results.md, more than a day; SEEDS=<n> for other than theirs

# The papers' form: a prompt is the truth.
HARD = $(SEEDED) labels.by=hard
bench-digits: $(VENV)/.installed ## digits tables of docs/results.md
	@$(BIN)/python benchmarks/table.py digits --beta 0.01 --name digits-beta0.01 $(HARD)
	@$(BIN)/python benchmarks/table.py digits --beta 0.1 --name digits-beta0.1 $(HARD)
	@$(BIN)/python benchmarks/table.py digits --beta 0.01 --vary-data \
	  --methods fedavg,regl-free,regl-dpd --name digits-beta0.01-varied $(HARD)
	@$(BIN)/python benchmarks/table.py digits --beta 0.01 --methods regl-free,regl \
	  --name digits-beta0.01-unlimited $(HARD) supplement.ratio=100 supplement.decay=0

bench-feddpd: $(VENV)/.installed $(GENERATORS) ## tables of README, docs/feddpd-results.md and docs/teaching-results.md (but bench-holdings and bench-real), more than a day; DATA=<torchvision root>
	@$(BIN)/python benchmarks/client_seconds.py
	@$(BIN)/python benchmarks/cost.py
	@$(BIN)/python benchmarks/cost.py --taught
	@$(BIN)/python benchmarks/generation.py --threads 2
	@$(BIN)/python benchmarks/scoring.py
	@$(BIN)/python benchmarks/judgement.py $(SEEDED)
	@$(BIN)/python benchmarks/feddpd.py $(SEEDED) $(if $(DATA),--data $(DATA))
	@$(BIN)/python benchmarks/margins.py $(SEEDED)
	@$(BIN)/python benchmarks/purity.py $(SEEDED)
	@$(BIN)/python benchmarks/page.py

bench-holdings: $(VENV)/.installed ## who holds what without label counts (docs/teaching-results.md), 2 seeds
	@$(BIN)/python benchmarks/who_holds_what.py
	@$(BIN)/python benchmarks/page.py

bench-limits: $(VENV)/.installed ## what a better supplement could reach on the digits, 2 seeds
	@$(BIN)/python benchmarks/limits.py --seeds $(or $(SEEDS),2)

bench-mnist: $(VENV)/.installed ## MNIST table of docs/results.md; DATA=<torchvision root>
	@$(BIN)/python benchmarks/table.py mnist --beta 0.01 --name mnist-beta0.01 $(if $(DATA),--data $(DATA)) $(HARD)

bench-real: $(VENV)/.installed ## what others' real images would bring (docs/teaching-results.md); DATA=<torchvision root>
	@$(BIN)/python benchmarks/real_images.py digits $(if $(DATA),mnist fashion-mnist --data $(DATA)) $(SEEDED)
	@$(BIN)/python benchmarks/page.py

bench-rejections: $(VENV)/.installed ## what rejecting images brings (docs/teaching-results.md); DATA=<torchvision root>
	@$(BIN)/python benchmarks/rejections.py digits $(if $(DATA),fashion-mnist --data $(DATA)) $(SEEDED)
	@$(BIN)/python benchmarks/page.py

bench-looks: $(VENV)/.installed $(LOOKS:%=runs/generators/garments-%) ## purity of generators in several looks; DATA=<torchvision root>
	@$(BIN)/python benchmarks/looks.py --data $(DATA)

# Generators of other domains, from the public fifth of each data set, in the default look or another:
# garments-inverted+blurred is the one of older tables.
PRETRAIN = $(BIN)/regl pretrain --out $@ --threads 1 --autoencoder-steps 800 --denoiser-steps 1500 \
  data.path=$(DATA) data.public-fraction=0.2

runs/generators/garments: | $(VENV)/.installed
	@$(PRETRAIN) --source fashion-mnist

runs/generators/garments-%: | $(VENV)/.installed
	@$(PRETRAIN) --source fashion-mnist --look $*

runs/generators/objects: | $(VENV)/.installed
	@$(PRETRAIN) --source cifar10

runs/generators/objects-%: | $(VENV)/.installed
	@$(PRETRAIN) --source cifar10 --look $*

clean: ## remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) .site .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@python=$$(.ci/find-python.sh); \
	echo "make: virtual environment $(VENV) with $$("$$python" -V)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Stamps: nothing is installed again until the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@[ -e $@ ] || .ci/check-space.sh $(VENV)
	@echo "make: installing the package and its dependencies into $(VENV) (some GB, minutes)"
	@$(PIP_INSTALL) -qq --progress-bar off -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP_INSTALL) -qq --progress-bar off -e '.[test,docs]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PIP_INSTALL) -qq --progress-bar off -e '.[docs]'
	@touch $@
