"""What a store is: `store.json`, its fingerprint, how two of them differ, and its parts."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from ldf_video.errors import StoreError
from ldf_video.output import reason, remedy, replacing, sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT_VERSION = 1
STORE_JSON = "store.json"

Kind: TypeAlias = Literal["latents", "frames"]
DTypeName: TypeAlias = Literal["float16", "uint8"]
Settings: TypeAlias = Mapping[str, Any]  # JSON: null, booleans, numbers, strings, lists, objects

_DISK_DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "uint8": np.dtype("|u1")}
_PART = re.compile(r"part-(?!0000)([0-9]{4}|[1-9][0-9]{4,})")


def canonical_json(settings: Settings) -> str:
    """Write settings as the one JSON text that equal settings share: ASCII, keys sorted, no spaces.

    Tuples count as lists. 12 and 12.0 differ: pass one type.

    Raises:
        TypeError: a value that JSON does not have.
        ValueError: NaN or infinity.
    """
    compact = (",", ":")
    return json.dumps(settings, sort_keys=True, separators=compact, allow_nan=False, default=dict)


@dataclass(frozen=True)
class StoreSpec:
    """What every row of a store is, and the settings that produced it."""

    kind: Kind
    item_shape: tuple[int, ...]  # of one frame's row, every extent at least 1
    dtype: DTypeName  # little-endian on disk
    settings: Settings  # all that decides the rows' bytes; kept as JSON would give them back

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
    def stem(self) -> str:
        """With which the names of the files of its rows begin."""
        return "data"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings as `canonical_json`, 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.settings).encode("ascii")).hexdigest()

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
    changes = [
        f"{key} {_shorten(here.get(key))} here, {_shorten(there.get(key))} asked"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
    hashes = f"fingerprint {_shorten(found.fingerprint)}, not {_shorten(asked.fingerprint)}"
    return f"{hashes}: {'; '.join(changes)}" if here != there else ""


def _flatten(spec: StoreSpec) -> dict[str, Any]:
    flat = {"kind": spec.kind, "item_shape": list(spec.item_shape), "dtype": spec.dtype}
    settings = _leaves(spec.settings)
    return flat | {f"settings.{key}" if key in flat else key: value for key, value in settings}


def _leaves(settings: Settings) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{key}.{inner}", leaf) for inner, leaf in _leaves(value))
        else:
            yield key, value


def _shorten(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return "x".join(map(str, value))
    if value is None:
        return "nothing"  # "none" is a word that settings use
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:8] if len(text) == 64 else text[:60]  # 64: a hash


def write_store_json(root: Path, spec: StoreSpec, *, info: Mapping[str, Any]) -> None:
    """Write `store.json` atomically: after a kill it is there whole, or not at all."""
    document = {
        "format_version": FORMAT_VERSION,
        "kind": spec.kind,
        "item_shape": list(spec.item_shape),
        "dtype": spec.dtype,
        "fingerprint": spec.fingerprint,
        "settings": spec.settings,
        "info": info,
    }
    text = json.dumps(document, indent=2, sort_keys=True, default=dict) + "\n"
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
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{root} has format {version}, this ldf-video reads {FORMAT_VERSION}:"
                " use the version that wrote it, or another store"
            )
        shape = tuple(document["item_shape"])
        spec = StoreSpec(document["kind"], shape, document["dtype"], document["settings"])
        info: dict[str, Any] = dict(document["info"])
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no store at {root}: expected a directory with {STORE_JSON}") from None
    except OSError as error:
        todo = remedy(error, elsewhere="restore it from a copy")
        raise StoreError(f"{path} cannot be read: {reason(error)}; {todo}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({reason(error)}): restore it from a copy") from error
    if spec.fingerprint != document.get("fingerprint"):
        raise StoreError(f"{path} was changed: its settings do not give its fingerprint")
    return spec, info


def sync_directory(root: Path) -> None:
    """Make new names in a directory survive a loss of power."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def part_path(root: Path, part: int) -> Path:
    """The directory of a part; part 0 is the store's own."""
    return root / f"part-{part:04d}" if part else root


def find_parts(root: Path) -> dict[int, Path]:
    """The parts of a store by number, part 0 first.

    A directory without a store.json, which a kill can leave, is none yet.

    Raises:
        StoreError: the directory cannot be read.
    """
    try:
        names = [path.name for path in root.glob("part-*") if (path / STORE_JSON).is_file()]
    except OSError as error:
        raise StoreError(f"{root} cannot be read ({error.strerror}): check the path") from error
    numbers = sorted(int(match[1]) for match in map(_PART.fullmatch, names) if match)
    return {part: part_path(root, part) for part in (0, *numbers)}


def find_difference(path: Path, spec: StoreSpec) -> str:
    """Say how one part, or what its store.json holds, differs from what is asked; "" if it fits."""
    try:
        found, _ = read_store_json(path)
    except StoreError as error:
        return str(error)
    difference = describe_difference(found, spec)
    return difference and f"{path} was made by other settings, {difference}"


def find_differing_part(root: Path, spec: StoreSpec) -> str:
    """Say how the first part that does not fit differs; "" where all fit, or there is no store."""
    if not (root / STORE_JSON).exists():
        return ""
    differences = (find_difference(path, spec) for path in find_parts(root).values())
    return next(filter(None, differences), "")
