# GNU make 3.81 and later. Every target can be called again: what is done stays done.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
SHELL_FILES := spark-submit.sh .ci/run $(wildcard conf/*/*.sh requirements/*.sh examples/*/*.sh tests/*/*.sh)

# Tests wait for JVMs and servers much of their time. Those of a file share what they start.
BOTH_CORES := -n 2 --dist loadfile

# Workers must run the driver's interpreter, and no result may depend on where the machine stands.
export PYSPARK_PYTHON := $(CURDIR)/$(PY)
export PYSPARK_DRIVER_PYTHON := $(CURDIR)/$(PY)
export TZ := UTC
# Where images set it, each process of the tests, and each worker of Spark, would compile all of its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env classes check test test-servers test-stores test-faults test-cluster reliability test-torch test-spark test-airflow demo docs train zoo bench bench-etl bench-stores bench-s3 bench-gpu format format-check lint types imports docstrings shell lock lock-check java clean

##@ Start here
help: ## Say what each target does
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: ## Make .venv from its hashed lock; needs Python 3.11 with pip
	@requirements/make-env.sh dev

demo: env java ## Score a year of flights on this machine, from raw files to a published version
	@bash examples/flights/demo.sh

##@ Before a change goes in
check: lint format-check types imports docstrings shell lock-check ## All that can be told without running the code

test: classes ## Run the tests; ARGS="-k word" chooses
	@$(PY) -m pytest $(BOTH_CORES) $(ARGS)

test-servers: classes ## Run the tests that start servers and clusters, or let workers die
	@$(PY) -m pytest -m servers $(BOTH_CORES) $(ARGS)

test-stores: classes ## Run the tests that ask servers of stores, which it starts: S3 and HDFS
	@tests/stores/install.sh && $(PY) -m pytest -m stores $(BOTH_CORES) $(ARGS)

test-faults: classes ## Run the tests that disturb stores, drivers and workers; takes the servers of test-stores
	@tests/stores/install.sh && $(PY) -m pytest -m faults $(BOTH_CORES) $(ARGS)

test-cluster: classes ## Submit jobs to clusters, which it starts: Spark's own, and YARN on HDFS
	@tests/cluster/install.sh && $(PY) -m pytest -m cluster $(ARGS)

reliability: ## Write docs/RELIABILITY.md anew after the tests that it is about; ARGS=--page writes it as they last ran
	@$(if $(filter --page,$(ARGS)),$(MAKE) env,$(MAKE) test-faults) && $(PY) -m tests.faults.reliability

test-torch: ## Run the tests of the torch runtime and of its exports, where torch is
	@requirements/make-env.sh zoo && \
	  .venv-zoo/bin/python -m pytest tests/scoring/test_runtimes.py tests/scoring/test_runtimes_torch.py $(ARGS)

# pyspark 3.5 asks distutils for versions, and names of pandas that are on their way out.
QUIET_3.5 := -W "ignore:The distutils package:DeprecationWarning" -W "ignore::DeprecationWarning:pyspark"
ON_SPARK = .venv-spark$(subst .,,$(V))/bin/python

# What CI runs there: of the default tests those that touch Spark; and Spark Connect, whose server pyspark 3.5 has not.
CONNECT := $(if $(filter 3.5,$(V)),,or connect)
SPARK_PART := $(if $(PART),-m "spark and not stores and not faults and not cluster and (not servers $(CONNECT))")

test-spark: java ## Run the tests on another Spark: V=3.5 or V=4.0; PART=spark chooses those that touch Spark
	@requirements/make-env.sh spark$(subst .,,$(V)) && \
	  PYSPARK_PYTHON=$(CURDIR)/$(ON_SPARK) PYSPARK_DRIVER_PYTHON=$(CURDIR)/$(ON_SPARK) \
	  $(ON_SPARK) -m pytest $(BOTH_CORES) $(QUIET_$(V)) $(SPARK_PART) $(ARGS)

test-airflow: env ## Load the DAGs of conf/airflow in a real Airflow, and hold what they ask for against spark-submit.sh
	@requirements/make-env.sh airflow && \
	  PYTHONPATH=$(CURDIR) .venv-airflow/bin/python -m pytest --confcutdir=tests/airflow tests/airflow $(ARGS)

format: env ## Bring all Python files into form
	@$(PY) -m ruff check --fix-only --quiet . && $(PY) -m ruff format .

##@ Parts of check
lint: env ## Rules of style and of likely defects
	@$(PY) -m ruff check .

format-check: env ## Form, as `make format` leaves it
	@$(PY) -m ruff format --check .

types: env ## Types, strictly
	@$(PY) -m mypy

imports: env ## Layers: jobs knows scoring, scoring knows etl
	@.venv/bin/lint-imports --no-logo

docstrings: env ## Every test says what is true
	@$(PY) -m interrogate --quiet --fail-under 100 tests || $(PY) -m interrogate -vv tests

shell: env ## Shell scripts
	@.venv/bin/shellcheck $(SHELL_FILES)

lock-check: ## Locks are current with pyproject.toml and requirements/*.in
	@requirements/make-env.sh tools && .tools/bin/python requirements/lock.py --check

# Most of the tests' JVMs live for seconds, half of which they would spend on loading classes.
classes: env java ## An archive of the classes that Spark loads, for the JVMs of the tests
	@$(PY) -m tests.spark_classes

java: ## Java is there and is 17 or newer
	@requirements/check-java.sh

##@ Now and then
docs: env ## Make docs/ETL-OPS.md from the ops' own classes
	@.venv/bin/batchscore etl ops > docs/ETL-OPS.md

lock: ## Compile the locks; ARGS=--upgrade takes the newest versions
	@requirements/make-env.sh tools && .tools/bin/python requirements/lock.py $(ARGS)

train: ## Train the example's model again and export its bundle
	@requirements/make-env.sh train && .venv-train/bin/python examples/flights/train.py

zoo: ## Make the small models of tests/zoo again
	@requirements/make-env.sh zoo && PYTHONHASHSEED=0 .venv-zoo/bin/python -m tests.zoo.make

bench: java ## Measure us and our peers side by side; ARGS="--only tree,wide --rounds 1" chooses
	@requirements/make-env.sh bench && \
	  PYSPARK_PYTHON=$(CURDIR)/.venv-bench/bin/python PYSPARK_DRIVER_PYTHON=$(CURDIR)/.venv-bench/bin/python \
	  .venv-bench/bin/python -m tests.bench.run $(ARGS)
	@$(if $(ARGS),,$(MAKE) bench-etl ARGS=--page && $(MAKE) bench-stores ARGS=--page)

bench-etl: java ## The part of bench about ETL specs; ARGS=--page writes docs/BENCHMARKS-ETL.md
	@requirements/make-env.sh bench && \
	  PYSPARK_PYTHON=$(CURDIR)/.venv-bench/bin/python PYSPARK_DRIVER_PYTHON=$(CURDIR)/.venv-bench/bin/python \
	  .venv-bench/bin/python -m tests.bench.etl.run $(ARGS)

bench-stores: env java ## The part of bench about S3; ARGS="--share 0.01" is a small one, ARGS=--page writes its page
	@tests/stores/install.sh && $(PY) -m tests.bench.stores $(ARGS)

bench-gpu: ## Measure our worker on a GPU, without Spark; PYTHON=… is an interpreter that has onnxruntime-gpu
	@$(or $(PYTHON),python3) -m tests.bench.gpu $(ARGS)

bench-s3: ## Measure clients of S3 side by side on versitygw: the table of docs/STORAGE.md
	@requirements/make-env.sh bench && tests/stores/install.sh && .venv-bench/bin/python -m tests.bench.s3_clients $(ARGS)

clean: ## Remove what was made here, the environments included
	@rm -rf .venv .venv-* .tools .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  build dist demo spark-warehouse metastore_db derby.log
	@find etl scoring jobs tests examples requirements -name __pycache__ -type d -prune -exec rm -rf {} +
