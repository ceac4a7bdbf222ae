#!/usr/bin/env bash
# Makes a virtual environment with this checkout in it, at the versions of constraints.txt.
#
#   bash scripts/setup.sh [EXTRA ...]     extras of pyproject.toml: pacman, doom, test, lint
#
# LDF_VENV   where; .venv in the checkout by default
# PYTHON     which Python (3.11 or newer); the first good one of python3, python3.13, ... by default
#
# The last line that it prints is the environment's directory. A second call does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${LDF_VENV:-$PWD/.venv}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: got ${PYTHON:-$(python3 --version 2>&1 || true)}, expected Python 3.11 or newer:" \
    "install one, or name it with PYTHON=/path/to/python3" >&2
  return 1
}

extras=$(IFS=,; echo "$*")
wanted=$(cat pyproject.toml scripts/constraints.txt | cksum | tr ' ' '-')
stamp="$venv/.installed-${extras:-none}-$wanted"

if [[ ! -e $stamp ]]; then
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    if ! "$python" -m venv "$venv"; then
      echo "setup: $python cannot make virtual environments:" \
        "install its venv module (python3-venv on Debian and Ubuntu)" >&2
      exit 1
    fi
  fi
  echo "setup: installing ldf-video${extras:+ with $extras} into $venv" >&2
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    --constraint scripts/constraints.txt --editable ".${extras:+[$extras]}" >&2
  touch "$stamp" # last, so that a killed installation is done again
fi
echo "$venv"
