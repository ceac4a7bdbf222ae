"""What a store is made of and by: `store.json`, its fingerprint, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.output import reason, remedy, replacing, sync

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION = 1
STORE_JSON = "store.json"

Kind: TypeAlias = Literal["latents", "frames"]
DTypeName: TypeAlias = Literal["float16", "uint8"]
Settings: TypeAlias = Mapping[str, Any]  # JSON: null, booleans, numbers, strings, lists, objects

_DISK_DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "uint8": np.dtype("|u1")}
_SHORT_HASH = 8


def canonical_json(settings: Settings) -> str:
    """Write settings as the one JSON text that equal settings share: ASCII, keys sorted, no spaces.

    Tuples count as lists. 12 and 12.0 differ: pass one type.

    Raises:
        TypeError: a value that JSON does not have.
        ValueError: NaN or infinity.
    """
    return json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(settings: Settings) -> str:
    """Hash the settings that produced something, see `canonical_json`: SHA-256 in 64 digits."""
    return hashlib.sha256(canonical_json(settings).encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True)
class StoreSpec:
    """What every row of a store is, and the settings that produced it.

    Attributes:
        kind: what a row holds.
        item_shape: shape of one frame's row, every extent at least 1.
        dtype: type of a row's values; little-endian on disk.
        settings: JSON values that decide the rows' bytes; kept as JSON would give them back.
    """

    kind: Kind
    item_shape: tuple[int, ...]
    dtype: DTypeName
    settings: Settings

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.dtype not in _DISK_DTYPES:
            raise ValueError(
                f"kind {self.kind!r} of dtype {self.dtype!r}: expected a kind of {get_args(Kind)}"
                f" and a dtype of {get_args(DTypeName)}"
            )
        if not all(isinstance(size, int) and size > 0 for size in self.item_shape):
            raise ValueError(f"item_shape {self.item_shape}: expected integers of at least 1")
        if not isinstance(self.settings, Mapping):
            raise TypeError(f"settings {self.settings!r}: expected a mapping")
        object.__setattr__(self, "item_shape", tuple(self.item_shape))
        object.__setattr__(self, "settings", json.loads(canonical_json(self.settings)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings, 64 hexadecimal digits."""
        return fingerprint(self.settings)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The type on disk."""
        return _DISK_DTYPES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row on disk."""
        return math.prod(self.item_shape) * self.numpy_dtype.itemsize


def describe_difference(found: StoreSpec, asked: StoreSpec) -> str:
    """Say in one line how a store's spec differs from what is asked; "" where it does not.

    For instance `fingerprint 0123abcd, not 4567cdef: size 32x32 here, 64x64 asked`.
    """
    here, there = _flatten(found), _flatten(asked)
    if here == there:
        return ""
    changes = [
        f"{key} {_shorten(here.get(key))} here, {_shorten(there.get(key))} asked"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
    hashes = f"fingerprint {found.fingerprint[:_SHORT_HASH]}, not {asked.fingerprint[:_SHORT_HASH]}"
    return f"{hashes}: {'; '.join(changes)}"


def _flatten(spec: StoreSpec) -> dict[str, Any]:
    flat = {"kind": spec.kind, "item_shape": list(spec.item_shape), "dtype": spec.dtype}
    pending = list(spec.settings.items())
    while pending:
        key, value = pending.pop()
        if isinstance(value, Mapping) and value:
            pending += [(f"{key}.{inner}", item) for inner, item in value.items()]
        else:
            flat[f"settings.{key}" if key in flat else key] = value
    return flat


def _shorten(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return "x".join(map(str, value))
    if value is None:
        return "nothing"  # "none" is a word that settings use
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_SHORT_HASH] if len(text) == 64 else text[:60]  # 64: a hash


def write_store_json(root: Path, spec: StoreSpec, *, info: Mapping[str, Any]) -> None:
    """Write `store.json` atomically: after a kill it is there whole, or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "kind": spec.kind,
        "item_shape": list(spec.item_shape),
        "dtype": spec.dtype,
        "fingerprint": spec.fingerprint,
        "settings": spec.settings,
        "info": _plain(info),
    }
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    with replacing(root / STORE_JSON) as part:
        part.write_text(text, encoding="utf-8")
    sync_directory(root)


def read_store_json(root: Path) -> tuple[StoreSpec, dict[str, Any]]:
    """Read what a store holds, and what only informs, from its `store.json`.

    Raises:
        StoreError: there is no store, it is damaged, or of a newer format.
    """
    path = root / STORE_JSON
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = int(document["format_version"])
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no store at {root}: expected a directory with {STORE_JSON}") from None
    except OSError as error:
        todo = remedy(error, elsewhere="restore it from a copy")
        raise StoreError(f"{path} cannot be read: {reason(error)}; {todo}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is damaged ({reason(error)}): restore it from a copy") from error
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{root} has format {version}, this ldf-video reads {FORMAT_VERSION}:"
            " use the version that wrote it, or another store"
        )
    try:
        shape = tuple(document["item_shape"])
        spec = StoreSpec(document["kind"], shape, document["dtype"], document["settings"])
        info = dict(document["info"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({reason(error)}): restore it from a copy") from error
    if spec.fingerprint != document.get("fingerprint"):
        raise StoreError(f"{path} was changed: its settings do not give its fingerprint")
    return spec, cast("dict[str, Any]", info)


def sync_directory(root: Path) -> None:
    """Make new names in a directory survive a loss of power."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
