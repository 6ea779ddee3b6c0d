#!/bin/bash
# What one accelerator does, within ten minutes, as JSON: tests/benchmarks/accelerator.sh --help tells more.
# The Python is $PYTHON (default python3); results go to $OUT (default build/accelerator).
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" tests/benchmarks/accelerator.py "$@"
