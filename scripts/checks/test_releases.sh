#!/usr/bin/env bash
# Runs the tests with the newest releases of all packages, or with the oldest that pyproject.toml allows.
#
#   bash scripts/checks/test_releases.sh newest|oldest [PYTEST OPTION ...]
#
# LDF_VENV   where the environment is made; a temporary directory, removed afterwards, by default
# PYTHON     which Python, python3 by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case ${1:-} in
  newest) resolution=highest ;;
  oldest) resolution=lowest-direct ;;
  *) echo "test_releases: got '${1:-}', expected newest or oldest" >&2; exit 2 ;;
esac
shift

if [[ -z ${LDF_VENV:-} ]]; then
  LDF_VENV=$(mktemp -d)
  trap 'rm -rf "$LDF_VENV"' EXIT
fi
"${PYTHON:-python3}" -m venv "$LDF_VENV"
# pip has no way to ask for the oldest releases; uv has, and takes the same files.
"$LDF_VENV/bin/python" -m pip install -qq --disable-pip-version-check uv
"$LDF_VENV/bin/uv" pip install -q --python "$LDF_VENV/bin/python" --resolution "$resolution" \
  --editable '.[test]'
"$LDF_VENV/bin/uv" pip list --python "$LDF_VENV/bin/python"
"$LDF_VENV/bin/python" -m pytest "$@"
