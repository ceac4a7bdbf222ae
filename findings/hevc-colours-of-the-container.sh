#!/usr/bin/env bash
# HEVC frames forget the colours that only the container names; H.264 frames keep them.
#
# Guess: tags of an mp4 (colr: BT.2020, PQ) reach every decoded frame.
# Seen with PyAV 18.1.0 (FFmpeg 8.1): the codec context says 9 16 9; frames of H.264 say so too, frames
# of HEVC whose stream says nothing of colours say 2 2 2 (unspecified). Read the context before the
# first frame is decoded, and use it where a frame says 2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import av

seen = {}
for codec, options in {
    "libx264": {"x264-params": "colorprim=undef:transfer=undef:colormatrix=undef"},
    "libx265": {"x265-params": "log-level=none:colorprim=2:transfer=2:colormatrix=2"},
}.items():
    with av.open("a.mp4", "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    with av.open("a.mp4") as container:
        context = container.streams.video[0].codec_context
        said = [int(context.color_primaries), int(context.color_trc), int(context.colorspace)]
        frame = next(container.decode(video=0))
        frame_said = [int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)]
    seen[codec] = said, frame_said
    print(codec, "container:", *said, "frame:", *frame_said)
assert seen["libx265"] == ([9, 16, 9], [2, 2, 2]), seen
PY
