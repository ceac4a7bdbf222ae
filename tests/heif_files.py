"""HEIC and AVIF pictures made of tiles, box by box (ISO/IEC 14496-12 and 23008-12)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import av
import numpy as np
from clip_files import usual_priority

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_KINDS = {  # by suffix: item, its header, brand, encoder, its options
    ".heic": (b"hvc1", b"hvcC", b"heic", "libx265", {"x265-params": "keyint=1:log-level=none"}),
    ".avif": (b"av01", b"av1C", b"avif", "libsvtav1", {"preset": "12"}),
}
_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


def write_tiles(
    path: Path,
    image: NDArray[np.uint8],
    *,
    quarter_turns: int = 0,
    alpha: NDArray[np.uint8] | None = None,
) -> Path:
    """Writes a picture (H, W, 3) as 2 x 2 tiles of its own.

    Args:
        path: ends in .heic or .avif.
        image: both sides are multiples of 4.
        quarter_turns: counter-clockwise, to set it upright.
        alpha: (H, W), as a picture without tiles.
    """
    item, header, brand, *_ = _KINDS[path.suffix]
    height, width, _ = image.shape
    rows, columns = height // 2, width // 2
    tiles = [image[r : r + rows, c : c + columns] for r in (0, rows) for c in (0, columns)]
    grid = struct.pack(">BBBBHH", 0, 0, 1, 1, width, height)
    extradata, coded = _coded(path, tiles)
    contents, kinds, hidden = [*coded, grid], [item] * 4 + [b"grid"], [1] * 4 + [0]
    properties = [
        _box(header, extradata),
        _full(b"ispe", struct.pack(">II", columns, rows)),
        _full(b"ispe", struct.pack(">II", width, height)),
        _box(b"irot", bytes([quarter_turns])),
    ]
    uses = [[0x81, 2]] * 4 + [[3, 0x84] if quarter_turns else [3]]
    references = _box(b"dimg", struct.pack(">HH4H", 5, 4, 1, 2, 3, 4))
    if alpha is not None:
        extradata, coded = _coded(path, [np.repeat(alpha[..., None], 3, axis=2)])
        contents, kinds, hidden = [*contents, *coded], [*kinds, item], [*hidden, 1]
        properties += [_box(header, extradata), _full(b"auxC", _ALPHA)]
        uses.append([0x85, 3, 0x86, 0x84] if quarter_turns else [0x85, 3, 0x86])
        references += _box(b"auxl", struct.pack(">HHH", 6, 1, 5))
    infos = b"".join(
        _full(b"infe", struct.pack(">HH", n, 0) + kind + b"\0", version=2, flags=is_hidden)
        for n, (kind, is_hidden) in enumerate(zip(kinds, hidden, strict=True), start=1)
    )
    ipma = b"".join(struct.pack(">HB", n, len(use)) + bytes(use) for n, use in enumerate(uses, 1))
    boxes = [
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
        _full(b"pitm", struct.pack(">H", 5)),
        _full(b"iinf", struct.pack(">H", len(contents)) + infos),
        _full(b"iref", references),
        _box(
            b"iprp",
            _box(b"ipco", b"".join(properties))
            + _full(b"ipma", struct.pack(">I", len(uses)) + ipma),
        ),
    ]
    start = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    begin = len(start) + len(_meta(boxes, contents, 0)) + 8
    path.write_bytes(start + _meta(boxes, contents, begin) + _box(b"mdat", b"".join(contents)))
    return path


def _meta(boxes: list[bytes], contents: list[bytes], begin: int) -> bytes:
    rows = b""
    for number, content in enumerate(contents, start=1):
        rows += struct.pack(">HHHII", number, 0, 1, begin, len(content))
        begin += len(content)
    place = _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(contents)) + rows)
    return _full(b"meta", b"".join([*boxes, place]))


def _coded(path: Path, images: list[NDArray[np.uint8]]) -> tuple[bytes, list[bytes]]:
    """What an encoder says up front, and a packet an image, each of them a key frame."""
    codec, options = _KINDS[path.suffix][3:]
    target, packets, extradata = path.with_suffix(".mp4"), [], b""
    for image in images:
        with usual_priority(), av.open(str(target), "w") as container:
            stream = container.add_stream(codec, rate=1, options=options)
            stream.height, stream.width = image.shape[:2]
            stream.pix_fmt = "yuvj420p" if path.suffix == ".heic" else "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode())
        with av.open(str(target)) as container:
            (stream,) = container.streams.video
            extradata = bytes(stream.codec_context.extradata or b"")
            packets += [bytes(packet) for packet in container.demux(stream) if packet.size]
    target.unlink()
    return extradata, packets


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _full(kind: bytes, content: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + content)
