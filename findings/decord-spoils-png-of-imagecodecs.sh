#!/usr/bin/env bash
# Once decord is imported, imagecodecs decodes no PNG any more in that process (Linux, x86-64).
#
# Guess: two packages that bring their own libraries do not meet.
# Seen with decord 0.6.0 and imagecodecs 2026.3.6: decord loads its library with RTLD_GLOBAL, and with it
# its zlib, which imagecodecs' PNG decoder then finds before its own: "bad parameters to zlib". Where
# imagecodecs' decoder was used before, all is well. So a TIFF whose pages are PNG fails, or does not,
# by what was imported first: read the two kinds of files in processes of their own.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check \
  decord==0.6.0 imagecodecs==2026.3.6 numpy==2.4.6
cat >read.py <<'PY'
import sys

import imagecodecs
import numpy as np

if "png first" in sys.argv:
    imagecodecs.png_encode(np.zeros((4, 6), np.uint8))
if "decord" in sys.argv:
    import decord
picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
try:
    same = (imagecodecs.png_decode(imagecodecs.png_encode(picture)) == picture).all()
    print("the same" if same else "another picture")
except imagecodecs.PngError as error:
    print(error)
PY
seen="$(venv/bin/python read.py), $(venv/bin/python read.py decord), $(venv/bin/python read.py "png first" decord)"
echo "alone, behind decord, before and behind decord: $seen"
[ "$seen" = "the same, bad parameters to zlib, the same" ]
