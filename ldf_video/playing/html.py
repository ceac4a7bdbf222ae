"""One HTML file with a model in it, which plays without a network, by ONNX Runtime Web.

The runtime is that of the npm package `onnxruntime-web`, whose files go into the page. Weights go
beside their graphs as they are stored, in two bytes or one, and the page makes float32 of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.errors import UsageError
from ldf_video.playing.packing import FORBIDDEN, pack

PAGE, SOURCE = (Path(__file__).with_name(name) for name in ("page.html", "local.js"))
CODE, WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
"""Of the package: what runs graphs on a CPU, with the code that loads it inside."""
LEAST = 256
"""Numbers of a weight that goes out of its graph."""
LARGEST_BYTES = 8 << 20


@dataclass(frozen=True)
class Weights:
    """The weights of a graph.

    Attributes:
        data: all of them, one after the other.
        parts: how each is stored: "count" numbers, of the "kind" half (float16) or single
            (float32); without a kind as int8, behind a scale (float32) for each of the "scales"
            rows or columns ("along" 0 or 1).
    """

    data: bytes
    parts: list[dict[str, Any]]


def apart(graph: bytes, name: str) -> tuple[bytes, Weights]:
    """A graph without its weights, which it expects in a file of that name; and the weights."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    data, parts, at = [], list[dict[str, Any]](), 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < LEAST:
            continue
        stored, part = coded(array)
        data.append(stored)
        parts.append(part)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        where = {"location": name, "offset": at, "length": array.nbytes}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        at += array.nbytes
    return model.SerializeToString(), Weights(b"".join(data), parts)


def coded(array: npt.NDArray[np.float32]) -> tuple[bytes, dict[str, Any]]:
    """The shortest of the ways to store a weight that give these numbers, to a rounding."""
    part: dict[str, Any] = {"count": array.size}
    flat = array.reshape(len(array), -1)
    for along in (0, 1):
        scales = scales_of(flat, along)
        whole = np.round(flat / scales).astype(np.int8)
        if np.allclose(whole * scales, flat, rtol=1e-6, atol=0):
            part |= {"along": along, "scales": scales.size}
            return scales.tobytes() + whole.tobytes(), part
    half = array.astype(np.float16)
    if np.array_equal(half.astype(np.float32), array):
        return half.tobytes(), part | {"kind": "half"}
    return array.tobytes(), part | {"kind": "single"}


def scales_of(flat: npt.NDArray[np.float32], along: int) -> npt.NDArray[np.float32]:
    """What the largest number of each row (`along` 0) or column is 127 times of; 1 for zeros."""
    largest = np.abs(flat).max(axis=1 - along, keepdims=True)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def runtime_files(folder: Path) -> tuple[bytes, bytes]:
    """Code and WASM of the npm package in a folder.

    Raises:
        UsageError: it is not there.
    """
    try:
        return (folder / CODE).read_bytes(), (folder / WASM).read_bytes()
    except OSError:
        raise UsageError(
            f"--runtime {folder}: no ONNX Runtime Web there; type `npm install onnxruntime-web` "
            "here, or name the folder of that package"
        ) from None


def make_page(
    settings: Mapping[str, Any], parts: Mapping[str, bytes], graphs: Mapping[str, bytes]
) -> bytes:
    """The page.

    Args:
        settings: what `local.js` reads beside the parts; see `recipes.export`.
        parts: that it unpacks by their names.
        graphs: that it runs, by their names; their weights are stored apart.
    """
    every, weights = dict(parts), {}
    for name, graph in graphs.items():
        every[name], of_graph = apart(graph, f"{name}.weights")
        every[f"{name}-weights"] = of_graph.data
        weights[name] = of_graph.parts
    packed = {name: zlib.compress(data, 9) for name, data in every.items()}
    lengths = {name: {"length": len(data)} for name, data in packed.items()}
    about = dict(settings) | {
        "weights": weights,
        "packing": {"forbidden": FORBIDDEN, "parts": lengths},
    }
    said = json.dumps(about).replace("<", "\\u003c")
    scripts = [f'<script type="application/json" id="settings">{said}</script>']
    scripts += [
        f'<script type="text/plain" id="part-{name}">{pack(data)}</script>'
        for name, data in packed.items()
    ]
    page = PAGE.read_text("utf-8").replace(' nonce="NONCE"', "")
    before, _, after = page.partition("<script>SOURCE</script>")
    source = f"<script>{SOURCE.read_text('utf-8')}</script>"
    return "\n".join([before, *scripts, source + after]).encode()
