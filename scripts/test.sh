#!/usr/bin/env bash
# Make a virtual environment if there is none, install the project with its test tools, run the tests.
#
#   bash scripts/test.sh              # every test that this machine can run
#   bash scripts/test.sh -m "not slow"  # arguments go to pytest
#
# GAUSSIANTALKER_VENV names the environment to use (default: .venv in the checkout);
# GAUSSIANTALKER_VENV=active takes the one that is active now.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
prepare_environment ".[dev]"
# Tests are many small jobs: spinning OpenMP threads would wait for each other more than they work.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
exec "$PYTHON" -m pytest "$@"
