#!/usr/bin/env bash
# Pillow reads a TIFF of 16-bit colours that lie apart (PlanarConfiguration 2) as 8 bits, without a word.
#
# Guess: the high byte of each number, as where the colours lie side by side (18, 86, 154 here), or an error.
# Seen with Pillow 13.0.0: low and high byte in turn, so that each row shows the left half of the picture,
# every second pixel of it noise. Read such files by tifffile.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check \
  pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import tifffile
from PIL import Image

colours = np.full((4, 6, 3), (0x1234, 0x5678, 0x9ABC), np.uint16)
tifffile.imwrite("apart.tif", np.moveaxis(colours, -1, 0), photometric="rgb", planarconfig="separate")
tifffile.imwrite("beside.tif", colours, photometric="rgb")
apart, beside = (np.asarray(Image.open(f"{name}.tif"))[0, :2].tolist() for name in ("apart", "beside"))
print("colours apart:", apart, "side by side:", beside)
assert beside == [[0x12, 0x56, 0x9A]] * 2, beside
assert apart == [[0x34, 0x78, 0xBC], [0x12, 0x56, 0x9A]], apart
PY
