"""Writes the tables of options in the README anew, from `ldf_video.options`.

python scripts/checks/option_tables.py [README.md]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ldf_video.options.commands import option_table

README = Path(__file__).resolve().parents[2] / "README.md"


def with_tables(text: str) -> str:
    """A page with each table as it should be behind its line `<!-- options: COMMAND -->`."""
    return re.sub(
        r"(<!-- options: ([\w-]+) -->\n)(?:\|.*\n)*",
        lambda match: f"{match[1]}{option_table(match[2])}\n",
        text,
    )


if __name__ == "__main__":
    page = Path(sys.argv[1]) if sys.argv[1:] else README
    page.write_text(with_tables(page.read_text()))
