#!/usr/bin/env bash
# libswscale's 16-bit RGB has no white at 65535 for limited-range YUV.
#
# Guess: white (Y 235 of 8 bits) becomes 65535 in rgb48le.
# Seen with PyAV 18.1.0 (FFmpeg 8.1): 65283; full-range 10 bits (Y 1023) give 65472. Divide by what is
# white there, not by 65535, or all is 0.4 % dark.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import av
import numpy as np

def white(pix_fmt, luma, chroma, dtype, color_range):
    frame = av.VideoFrame(64, 64, pix_fmt)
    for plane, value in zip(frame.planes, (luma, chroma, chroma)):
        plane.update(np.full(plane.buffer_size // dtype().itemsize, value, dtype).tobytes())
    frame.color_range = color_range
    return int(frame.reformat(format="rgb48le").to_ndarray().max())

seen = white("yuv444p", 235, 128, np.uint8, 1), white("yuv444p10le", 1023, 512, np.uint16, 2)
print("limited 8 bits:", seen[0], "full 10 bits:", seen[1])
assert seen == (65283, 65472), seen
PY
