"""A folder that `publish` made: which files are its own, and configs that say nothing of a machine.

`publish.json` in it names them with their digests. What somebody changed since is kept aside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ldf_video.errors import UsageError
from ldf_video.output import json_text, write_atomically, write_errors
from ldf_video.runs import hub, zoo
from ldf_video.training import checkpoints

MARK = "publish.json"
FORMAT_VERSION = 1
UNKNOWN = "a model that was not published"

_KEPT = (
    *("kind", "model", "game", "training", "latents", "frames", "fps", "cuts", "memory"),
    *("encoder", "data", "trained", "torch"),
)
"""Parts of a config that go to others; the rest says where things lie."""
_REFERENCES = ("init", "top_model")
"""Parts, and options, that say which model one began with or learned from."""
_PLACES = ("frames_store",)
"""Options that are places."""


class PublishedFolder:
    """The files of a folder as they are written, each of them known by its digest.

    Attributes:
        path: the folder.
        kept_aside: files of it that somebody had changed, and where they are now.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder that is new, empty, or that this made before; touches nothing.

        Raises:
            UsageError: it holds something else.
        """
        self.path = path
        self.kept_aside: dict[str, Path] = {}
        self._written: dict[str, str] = {}
        self._before = _files_of(path)

    @property
    def files(self) -> list[str]:
        """What was written, and the list of it."""
        return [*sorted(self._written), MARK]

    def write(self, name: str, make: Callable[[Path], object]) -> None:
        """Have `make` write the file of that name, in the place of the one that was there.

        Raises:
            WriteError: it cannot be written.
        """
        path = self.path / name
        if path.is_file() and _digest(path) != self._before.get(name):
            aside = _free_name(path)
            with write_errors(aside):
                path.rename(aside)
            self.kept_aside[name] = aside
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        self._written[name] = _digest(path)
        self._save(self._before | self._written)

    def finish(self) -> None:
        """Delete what this wrote before and did not write now."""
        for name in self._before.keys() - self._written.keys():
            path = self.path / name
            if path.is_file() and _digest(path) == self._before[name]:
                with write_errors(path):
                    path.unlink()
        self._save(self._written)

    def _save(self, files: Mapping[str, str]) -> None:
        about = {"format_version": FORMAT_VERSION, "files": dict(sorted(files.items()))}
        text = json_text(about, indent=2) + "\n"
        write_atomically(self.path / MARK, lambda partial: partial.write_text(text))


def _files_of(path: Path) -> dict[str, str]:
    """The files that stand in a folder by right, with their digests.

    Raises:
        UsageError: it holds something else.
    """
    there = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    seen = [name for name in there if not name.startswith(".")]
    if MARK not in there:
        if seen:
            raise UsageError(
                f"publish {path}: it holds {seen[0]} and no {MARK}, so publish did not make it; "
                "name a new or an empty folder"
            )
        return {}
    linked = [name for name in seen if (path / name).is_symlink()]
    if linked:
        raise UsageError(f"publish {path}: {linked[0]} is a link out of it; name another folder")
    try:
        about = json.loads((path / MARK).read_text())
        version, files = about["format_version"], about["files"].items()
        known = {str(name): str(digest) for name, digest in files}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        version, known = None, {}
    if version != FORMAT_VERSION:
        raise UsageError(
            f"publish {path}: {MARK} is damaged, or of another version; name a new folder"
        )
    outside = (name for name in known if not Path(name).parts or Path(name).is_absolute())
    if any(".." in Path(name).parts for name in known) or any(outside):
        raise UsageError(f"publish {path}: {MARK} names files outside of it; name a new folder")
    return known


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _free_name(path: Path) -> Path:
    numbered = (path.with_name(f"{path.stem}.old-{n}{path.suffix}") for n in range(1, 10_000))
    return next(name for name in numbered if not name.exists())


# -- configs -------------------------------------------------------------------------------------


def public_config(config: Mapping[str, Any], *, trained: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's config goes to others: what it is and how it was trained.

    No path is in it. Models that it began with or learned from are named if others can find them.

    Args:
        config: of the model.
        trained: how many "steps" and "minutes" it was trained for, as far as that is known.
    """
    public = {name: config[name] for name in _KEPT if name in config}
    options = {k: v for k, v in config.get("options", {}).items() if k not in _PLACES}
    for part in _REFERENCES:
        options.pop(part, None)
        if part in config:
            name = public_name(config[part])
            where = "from" if part == "init" else "path"
            public[part] = {where: name or UNKNOWN, "fingerprint": config[part]["fingerprint"]}
            options |= {} if name is None else {part: name}
    return public | {"options": options} | ({"trained": dict(trained)} if trained else {})


def public_name(reference: Mapping[str, str]) -> str | None:
    """The name by which others find a model that a config refers to; None where there is none."""
    for kind in ("frame", "top"):
        for name, place in zoo.shipped_of(kind).items():
            if checkpoints.fingerprint_of(place) == reference["fingerprint"]:
                return name
    places = [reference[key] for key in ("path", "from") if key in reference]
    names = (hub.name_of(Path(place)) for place in places)
    typed = (place for place in places if hub.is_pinned(place))
    return next((name for name in (*names, *typed) if name is not None), None)
