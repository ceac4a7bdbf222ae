#!/usr/bin/env bash
# Looking at a frame's side data keeps its pixels until the garbage collector runs.
#
# Guess: reading frame.side_data is free.
# Seen with PyAV 18.1.0: it makes a reference cycle with the frame. Decoded 1080p frames that are
# looked at pile up, until Python's collector comes. VideoFrame.rotation does not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import gc
import weakref

import av
import numpy as np

def is_let_go(look):
    gc.collect()
    gc.disable()
    frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
    try:
        seen = weakref.ref(frame)
    except TypeError:  # no weak references: count objects instead
        before = len(gc.get_objects())
        look(frame)
        del frame
        left = sum(type(o).__name__ == "VideoFrame" for o in gc.get_objects())
        gc.enable()
        return left == 0
    look(frame)
    del frame
    gc.enable()
    return seen() is None

plain, looked = is_let_go(lambda frame: frame.rotation), is_let_go(lambda frame: frame.side_data)
print("let go at once: after rotation", plain, "after side_data", looked)
assert plain and not looked
PY
