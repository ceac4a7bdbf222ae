#!/usr/bin/env bash
# Sets up .venv and runs the tests, in two processes.
#
#   bash scripts/test.sh [PYTEST OPTION ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$(bash scripts/setup.sh test)
exec "$venv/bin/python" -m pytest -n 2 --dist worksteal "$@"
