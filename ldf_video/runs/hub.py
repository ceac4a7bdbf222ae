"""Models on a model hub, by `user/name` or `user/name@revision`: taken from there, put there.

Of a repository the files are fetched that a model is made of, each by its name: JSON, safetensors
and the card. They lie in the cache of huggingface_hub, which finds them again without a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ldf_video.errors import CheckpointError, LdfError
from ldf_video.options.option import FRAME_MODEL, START
from ldf_video.output import reason
from ldf_video.training import checkpoints

KINDS = ("frame", "top")
CARD = "README.md"
EXTRA = "pip install 'ldf-video[hub]'"

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(\S+))?", re.ASCII)
_NO_NETWORK = "the hub cannot be reached"


def is_name(asked: str | Path) -> bool:
    """Whether a repository is meant: `user/name`, where no folder `user` is here that may hold it.

    So a mistyped path asks nobody, nor does a place where commands write by themselves.
    """
    user, own = Path(asked).parent, (Path(FRAME_MODEL).parent, Path(START))
    return bool(_NAME.fullmatch(str(asked))) and user not in own and not user.exists()


def name_of(directory: Path) -> str | None:
    """`user/name@commit` of a directory that was fetched, None of any other."""
    parts = directory.resolve().parts
    for place, part in enumerate(parts[:-2]):
        if part.startswith("models--") and parts[place + 1] == "snapshots":
            return f"{part.removeprefix('models--').replace('--', '/', 1)}@{parts[place + 2]}"
    return None


def is_pinned(asked: str) -> bool:
    """Whether it is `user/name@commit`, as runs remember it."""
    found = _NAME.fullmatch(asked)
    return found is not None and bool(re.fullmatch(r"[0-9a-f]{40}", found[2] or ""))


def fetch(asked: str, kind: str | None = None) -> Path:
    """The folder of a repository's models, in the cache; weights of those that are needed.

    What it holds is looked at before any weights are fetched. A repository of a single model may
    have it at its root.

    Args:
        asked: `user/name`, or `user/name@revision` for a branch, a tag or a commit.
        kind: "frame"; "top", with which its frame model comes; None for all that is there.

    Raises:
        CheckpointError: there is no such repository or revision, it holds no such model, or it is
            not in the cache and the hub cannot be reached.
        LdfError: huggingface_hub is not installed.
    """
    found = _NAME.fullmatch(asked)
    assert found is not None
    name, revision = found.groups()
    places = ("", *(f"{place}/" for place in KINDS))
    small = [CARD, *(place + checkpoints.CONFIG for place in places)]
    with _no_bars():
        folder = _snapshot(name, revision, small)
    held = [place for place in KINDS if (folder / place / checkpoints.CONFIG).is_file()]
    if kind not in (None, *held) or not held:
        if not (folder / checkpoints.CONFIG).is_file():
            raise CheckpointError(
                f"{asked} on the hub has no {kind or 'top'}/{checkpoints.CONFIG}: expected what "
                "ldf-video publish makes"
            )
        held = [""]
    elif kind == "frame":
        held = ["frame"]
    for place in held:
        checkpoints.load_config(folder / place, kind=place or kind)
    weights = [Path(place, checkpoints.WEIGHTS).as_posix() for place in held]
    if missing := [file for file in weights if not (folder / file).is_file()]:
        _snapshot(name, folder.name, missing)
    if not all((folder / file).is_file() for file in missing):
        raise CheckpointError(
            f"{asked}: {missing[0]} is neither on the hub nor in the cache; run it again with a "
            "network, or name another model"
        )
    return folder


def push(folder: Path, name: str, files: Iterable[str], *, mark: str) -> str:
    """Put files of a folder into a repository, in one commit; returns its address.

    A new repository is private. One that is there keeps its visibility, and its other files. It
    must have the file `mark`, by which it is known to be of such a folder, or be empty.

    Raises:
        LdfError: huggingface_hub is not installed, nobody is logged in, or the hub refuses.
    """
    hub = _package()
    with _errors_shown(name):
        api = hub.HfApi()
        address = api.create_repo(name, private=True, exist_ok=True)
        there = [file for file in api.list_repo_files(name) if not file.startswith(".")]
        if there and mark not in there:
            raise LdfError(
                f"{name} on the hub holds {there[0]} and no {mark}, so publish did not make it; "
                "name another repository"
            )
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="ldf-video publish",
        )
    return str(address)


def _snapshot(name: str, revision: str | None, files: list[str]) -> Path:
    hub = _package()
    with _errors_shown(name, revision):
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=files))


@contextmanager
def _no_bars() -> Iterator[None]:
    """Let huggingface_hub draw none: files of some kilobytes are there before one is seen."""
    _package()
    from huggingface_hub import utils as bars

    if bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise LdfError(f"a model hub needs huggingface_hub: {EXTRA}") from None
    return huggingface_hub


@contextmanager
def _errors_shown(name: str, revision: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line."""
    from huggingface_hub import errors

    of_network = getattr(errors, "HTTPError", OSError)  # of requests, later of httpx
    try:
        yield
    except errors.RevisionNotFoundError:
        raise CheckpointError(
            f"{name} on the hub has no revision {revision}: name a branch, a tag or a commit"
        ) from None
    except errors.RepositoryNotFoundError:  # also of one that one must ask for
        raise CheckpointError(
            f"no model {name}: there is no such directory here, and on the hub no such repository "
            "that may be read; correct the name, or log in by: hf auth login"
        ) from None
    except errors.EntryNotFoundError:
        at = "" if revision is None else f"@{revision}"
        raise CheckpointError(
            f"no model {name}{at}: there is no such directory here, it is not in the cache, and "
            f"{_NO_NETWORK}; run it again with a network, or name a directory"
        ) from None
    except errors.LocalTokenNotFoundError:
        raise LdfError(f"{name}: nobody is logged in on the hub; type: hf auth login") from None
    except (of_network, OSError, ValueError) as error:
        raise LdfError(
            f"{name}: the hub refused or failed: {reason(error)}; try again, or log in by: "
            "hf auth login"
        ) from error
