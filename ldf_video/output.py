"""Files as they are written: whole under their names or not at all, and why one cannot be."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ldf_video.errors import WriteError

PARTS = ".*.part*"  # names of files that are being written, or were when their writer was killed
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what systems say where there is no room

_REMEDIES = (
    (FULL, "make room or {elsewhere}"),
    ({errno.EACCES, errno.EPERM}, "see to the permissions or {elsewhere}"),
    ({errno.EROFS}, "it may not be written to: {elsewhere}"),
    (
        {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY},
        "something else of that name is there: move it or {elsewhere}",
    ),
    (
        {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP},
        "its file system has no such thing: {elsewhere}, on another",
    ),
    ({errno.EMFILE, errno.ENFILE}, "raise the limit of open files (ulimit -n)"),
    ({errno.ENAMETOOLONG}, "give a shorter name"),
)
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new empty file beside `path` for the block to fill; it is then synced and renamed.

    The file is hidden, keeps the suffix, which decides formats, and has the rights that any new
    file there has; the block may replace it by another of that name. Where the block raises, it is
    deleted and `path` stays as it was.

    Raises:
        OSError: it cannot be made, synced or renamed.
    """
    part = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.part{path.suffix[:20]}")
    # O_EXCL: a link that somebody laid at this name is not followed.
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = stat.S_IMODE(part.stat().st_mode)  # as the umask and the directory have it
        yield part
        with part.open("rb+") as file:
            sync(file.fileno())
        with contextlib.suppress(OSError):  # safetensors makes files for the owner alone
            if stat.S_IMODE(part.stat().st_mode) != mode:
                part.chmod(mode)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a file beside `path`, sync it and move it into place; parents are made.

    Raises:
        WriteError: it cannot be written; the old file is kept.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            write(part)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system into a WriteError of one line."""
    try:
        yield
    except OSError as error:
        place = error.filename if error.filename in map(str, path.parents) else None
        why = reason(error) + (f" ({place})" if place else "")
        raise WriteError(f"cannot write {path}: {why}; {remedy(error)}") from error


def sync(descriptor: int) -> None:
    """Wait until a file or directory is on disk; an OSError if the disk is full or fails."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # of file systems that cannot say so
            raise


def reason(error: BaseException) -> str:
    """An error's message in one short line."""
    message = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join((getattr(error, "strerror", None) or message).split())[:160]


def remedy(error: OSError, *, elsewhere: str = "write elsewhere") -> str:
    """What to do about a file that cannot be written; `elsewhere` is how to write elsewhere."""
    known = (text for numbers, text in _REMEDIES if error.errno in numbers)
    return next(known, "see to the disk or {elsewhere}").format(elsewhere=elsewhere)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts: NaN and infinity become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
