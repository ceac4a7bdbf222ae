"""Checks what the sdist and the wheel in a directory hold, and what they must not hold.

    python scripts/checks/check_dist.py dist/

Exit code 1 and a line for each thing that is wrong.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

SHIPPED = [
    f"checkpoints/{model}/{file}"
    for model in (
        "pacman-32/frame",
        "pacman-32/top",
        "pacman-32-flow/top",
        "pacman-32-play/top",
        "film-64/frame",
    )
    for file in ("config.json", "model.safetensors")
]
"""Of each shipped model; what else stands under checkpoints/ is somebody's own."""

WHEEL = ["ldf_video/py.typed", *(f"ldf_video/{path}" for path in SHIPPED)]
SDIST = [
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "pyproject.toml",
    ".ci/run",
    "docs/architecture.md",
    "scripts/constraints.txt",
    "scripts/demo.sh",
    "scripts/data/record_pacman.py",
    "scripts/test.sh",
    "tests/test_record_pacman.py",
    *SHIPPED,
]


def problems(names: Iterable[str], *, expected: Sequence[str]) -> list[str]:
    """List what is missing from an archive and what should not be in it.

    Args:
        names: paths of its files, POSIX, relative to the project.
        expected: paths that must be among them.
    """
    there = set(names)
    found = [f"{name} is missing" for name in expected if name not in there]
    return found + [f"{name} does not belong there" for name in sorted(there) if _stray(name)]


def _stray(name: str) -> bool:
    """Whether a file is another checkpoint than the shipped ones, or left by a training."""
    parts = PurePosixPath(name).parts
    if "checkpoints" not in parts:
        return False
    inside = "/".join(parts[parts.index("checkpoints") :])
    return inside not in SHIPPED and parts[-1] != "README.md"


def wheel_names(path: Path) -> list[str]:
    """Paths of a wheel's files."""
    with zipfile.ZipFile(path) as wheel:
        return wheel.namelist()


def sdist_names(path: Path) -> list[str]:
    """Paths of an sdist's files, without the directory that holds them all."""
    with tarfile.open(path) as sdist:
        return ["/".join(name.split("/")[1:]) for name in sdist.getnames()]


def main(argv: Sequence[str] | None = None) -> int:
    """Check the one wheel and the one sdist of a directory; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    dist = Path(arguments[0] if arguments else "dist")
    wheels, sdists = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        print(
            f"got {len(wheels)} wheels and {len(sdists)} sdists in {dist}, expected one of each: "
            "run python -m build into an empty directory",
            file=sys.stderr,
        )
        return 1
    found = [f"{wheels[0].name}: {p}" for p in problems(wheel_names(wheels[0]), expected=WHEEL)]
    found += [f"{sdists[0].name}: {p}" for p in problems(sdist_names(sdists[0]), expected=SDIST)]
    print("\n".join(found) or f"{wheels[0].name} and {sdists[0].name} hold what they should")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
