#!/usr/bin/env bash
# MJPEG's decoder passes over a packet of zeros without a word.
#
# Guess: a packet in which no picture begins is an error.
# Seen with PyAV 18.1.0 (FFmpeg 8.1): no frame and no error, and the frames around it are not marked
# corrupt. Only counting packets against frames tells (one frame a packet: Codec.intra_only).
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
    stream = container.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
    for k in range(10):
        image = np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode())
with av.open("a.avi") as container:
    places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
content = bytearray(open("a.avi", "rb").read())
for position, size in places[4:6]:
    content[position : position + size] = bytes(size)
open("a.avi", "wb").write(content)
num_packets = num_frames = num_errors = num_corrupt = 0
with av.open("a.avi") as container:
    stream = container.streams.video[0]
    for packet in container.demux(stream):
        num_packets += packet.size > 0
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError:
            num_errors += 1
            continue
        num_frames += len(frames)
        num_corrupt += sum(frame.is_corrupt for frame in frames)
print(num_packets, "packets", num_frames, "frames", num_errors, "errors", num_corrupt, "corrupt")
assert (num_packets, num_frames, num_errors, num_corrupt) == (10, 8, 0, 0)
PY
