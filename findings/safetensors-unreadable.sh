#!/usr/bin/env bash
# safetensors says of a file that may not be read that it does not exist.
#
# Guess: PermissionError, or a message that says so.
# Seen with safetensors 0.8.0, not as root (as root everything may be read, so nothing is shown):
# FileNotFoundError, No such file or directory. Try open() on the file to learn the cause.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
venv/bin/python - <<'PY'
import os

import numpy as np
from safetensors.numpy import load_file, save_file

save_file({"a": np.zeros(3)}, "a.safetensors")
os.chmod("a.safetensors", 0)
if os.geteuid() == 0:
    os.chmod(".", 0o755)
    os.setuid(65534)
try:
    load_file("a.safetensors")
except Exception as error:
    print(type(error).__name__, error)
    assert isinstance(error, FileNotFoundError) and "No such file" in str(error)
else:
    raise SystemExit("it was read")
PY
