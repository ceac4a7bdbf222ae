"""Bytes as text that fits into a page of any encoding, seven bits a character.

Base64 makes four bytes of three, this eight of seven. A page may hold any character but a few. Such
a one is written together with the one behind it, as one character that takes two bytes in UTF-8.
The page unpacks it again (`unpack` in `local.js`).
"""

from __future__ import annotations

import re

import numpy as np

FORBIDDEN = "\0\n\r<&\\`"
"""What a parser of HTML would change or take for a beginning, and newlines, for editors."""
FIRST_LONG = 0x80
"""The first of the long characters: behind it comes place in FORBIDDEN * 128 + what follows."""


def pack(data: bytes) -> str:
    """Text of `data`. Zeros fill up the last character, so the length must be known beside it."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    sevens = np.pad(bits, (0, -len(bits) % 7)).reshape(-1, 7)
    text = (np.packbits(sevens, axis=1)[:, 0] >> 1).tobytes().decode("ascii")
    if text and text[-1] in FORBIDDEN:
        text += "0"  # something must stand behind it
    return re.sub(f"[{re.escape(FORBIDDEN)}](.)", _long, text, flags=re.DOTALL)


def _long(found: re.Match[str]) -> str:
    return chr(FIRST_LONG + 128 * FORBIDDEN.index(found[0][0]) + ord(found[1]))
