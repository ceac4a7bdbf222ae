"""What an earlier evaluation wrote, to be compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ldf_video.errors import LdfError
from ldf_video.evaluation.figures import Figures, figures_from_json, less
from ldf_video.output import reason


@dataclass(frozen=True)
class Earlier:
    """An evaluation that `--json` kept.

    Attributes:
        file: where.
        reference_sha256: of the real clips that its figures are against.
        seed: of what it drew and generated.
        rows: its figures by name.
    """

    file: Path
    reference_sha256: str
    seed: int
    rows: Mapping[str, Figures]

    @classmethod
    def load(cls, file: Path) -> Earlier:
        """Read it.

        Raises:
            LdfError: there is none, or the file is something else.
        """
        try:
            found = json.loads(file.read_text())
            rows = {name: figures_from_json(fields) for name, fields in found["rows"].items()}
            return cls(file, str(found["reference_sha256"]), int(found["seed"]), rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LdfError(
                f"--compare {file}: {reason(error)}; expected what evaluate --json wrote"
            ) from error

    def check(self, reference_sha256: str) -> None:
        """Refuse figures against another reference.

        Raises:
            LdfError: they are.
        """
        if self.reference_sha256 != reference_sha256:
            raise LdfError(
                f"--compare {self.file}: its figures are against other real clips (reference "
                f"{self.reference_sha256[:12]}, here {reference_sha256[:12]}); give the --real, "
                "--num-clips, --size, --judge and --seed, or the --reference, that it was made with"
            )

    def differences(self, rows: Mapping[str, Figures]) -> dict[str, Figures]:
        """How much farther sets are than its own of the same names and numbers of clips."""
        return {
            f"{name}, less that of {self.file.name}": less(figures, self.rows[name])
            for name, figures in rows.items()
            if name != "real"
            and name in self.rows
            # a distance grows as clips become fewer
            and self.rows[name].num_clips == figures.num_clips
        }
