#!/usr/bin/env bash
# In AVI a packet's pts of H.264 with B-frames is not when it shows.
#
# Guess: frame.pts rises by one a frame, as in mp4.
# Seen with PyAV 18.1.0 (FFmpeg 8.1): AVI has no times, they count packets in the order of decoding, so
# decoded frames have times that repeat, skip or step back; frame.dts rises evenly.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import av
import numpy as np

with av.open("a.avi", "w") as container:
    stream = container.add_stream("libx264", rate=25, options={"bf": "3"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for k in range(30):
        image = np.random.default_rng(k // 5).integers(0, 255, (48, 64, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode())
with av.open("a.avi") as container:
    frames = list(container.decode(video=0))
pts, dts = [f.pts for f in frames], [f.dts for f in frames]
print("pts", pts)
print("dts", dts)
assert len(frames) == 30
assert any(step != 1 for step in np.diff(pts)), "pts rise evenly now"
assert all(step == 1 for step in np.diff(dts[:-4])), "dts do not"
PY
