#!/usr/bin/env bash
# With frame threads, an error in the last packet silently takes the frames before it along.
#
# Guess: decode(None) gives every frame that is still held, or raises.
# Seen with PyAV 18.1.0 (FFmpeg 8.1): H.264 of 60 frames whose last packet holds nothing: one thread
# gives 59 frames and an error, four give fewer frames and no error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import av
import numpy as np

with av.open("a.mp4", "w") as container:
    options = {"g": "15", "bf": "2"}
    stream = container.add_stream("libx264", rate=25, options=options)
    stream.width, stream.height, stream.pix_fmt = 512, 384, "yuv420p"
    for k in range(60):
        image = np.random.default_rng(k).integers(0, 255, (384, 512, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode())
with av.open("a.mp4") as container:
    places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
content = bytearray(open("a.mp4", "rb").read())
position, size = places[-1]
content[position : position + size] = bytes(size)
open("a.mp4", "wb").write(content)

def read(threads):
    num_frames = num_errors = 0
    with av.open("a.mp4") as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "FRAME", threads
        for packet in [*container.demux(stream)]:
            try:
                num_frames += len(stream.decode(packet))
            except av.error.FFmpegError:
                num_errors += 1
    return num_frames, num_errors

alone, together = read(1), read(4)
print("one thread:", *alone, "four:", *together, "(frames, errors)")
assert alone[0] == 59 and together[0] < 59, (alone, together)
PY
