"""Files appear whole or not at all, with the rights of any new file; errors name their cause."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from ldf_video import output
from ldf_video.errors import WriteError
from ldf_video.output import json_text, remedy, replacing, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Have the system refuse a call."""

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refused)


def for_the_owner_alone(part: Path) -> None:
    """Write as safetensors does."""
    part.unlink()
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    part.write_text("x")


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_has_the_rights_of_any_new_one_also_where_all_may_write(
    tmp_path: Path, umask: int
) -> None:
    tmp_path.chmod(0o1777)
    for name, write in (("a", lambda part: part.write_text("a")), ("b", for_the_owner_alone)):
        write_atomically(tmp_path / name, write)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def test_a_link_at_the_name_of_the_part_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim").write_text("mine")
    monkeypatch.setattr(output.secrets, "token_hex", lambda count: "known")
    (tmp_path / ".a.known.part.json").symlink_to(tmp_path / "victim")
    with pytest.raises(WriteError, match=r"cannot write .*a\.json: File exists"):
        write_atomically(tmp_path / "a.json", lambda part: part.write_text("theirs"))
    assert (tmp_path / "victim").read_text() == "mine"


def test_names_of_parts_cannot_be_guessed(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with replacing(tmp_path / "a.mp4") as part:
            seen.append(part.name)
    assert len(set(seen)) == 2
    assert all(name.startswith(".a.") and name.endswith(".part.mp4") for name in seen)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_part(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, lambda part: part.write_text("old"))

    def fail(part: Path) -> None:
        part.write_text("half")
        raise error

    with pytest.raises((WriteError, KeyboardInterrupt)) as raised:
        write_atomically(path, fail)
    if isinstance(error, OSError):
        assert str(raised.value).endswith(": No space left on device; make room or write elsewhere")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("call", "number"),
    [("chmod", errno.EPERM), ("chmod", errno.EOPNOTSUPP), ("fsync", errno.EINVAL)],
)
def test_what_a_file_system_does_not_have_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    refuse(monkeypatch, call, number)
    write_atomically(tmp_path / "a", for_the_owner_alone)
    assert (tmp_path / "a").read_text() == "x"


def test_a_disk_that_fails_to_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(WriteError, match="Input/output error; see to the disk"):
        write_atomically(tmp_path / "a", lambda part: part.write_text("x"))
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_a_file_system_takes_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("é" * 100 + ".json"), lambda part: part.write_text("x"))
    with pytest.raises(WriteError, match="File name too long; give a shorter name"):
        write_atomically(tmp_path / ("x" * 300), lambda part: part.write_text("x"))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EDQUOT, "make room or name another --out"),
        (errno.EACCES, "see to the permissions or name another --out"),
        (errno.EROFS, "it may not be written to: name another --out"),
        (errno.EISDIR, "something else of that name is there: move it or name another --out"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n)"),
        (errno.ENOLCK, "its file system has no such thing: name another --out, on another"),
        (errno.EIO, "see to the disk or name another --out"),
    ],
)
def test_what_to_do_follows_from_the_cause(number: int, said: str) -> None:
    assert remedy(OSError(number, ""), elsewhere="name another --out") == said


def test_a_file_in_the_way_of_a_parent_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"a\.json: File exists \(.*/file\); something else"):
        write_atomically(tmp_path / "file" / "a.json", lambda part: part.write_text("x"))
    (tmp_path / "dir.json").mkdir()
    with pytest.raises(WriteError, match="Is a directory; something else of that name is there"):
        write_atomically(tmp_path / "dir.json", lambda part: part.write_text("x"))


def test_json_has_no_nan() -> None:
    value = {"a": [float("nan"), 1.5], "b": (float("inf"), "NaN"), "c": None}
    assert json.loads(json_text(value), parse_constant=pytest.fail) == {
        "a": [None, 1.5],
        "b": [None, "NaN"],
        "c": None,
    }
