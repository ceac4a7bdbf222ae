"""How close pictures come back."""

from __future__ import annotations

import numpy as np


def psnr_db(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio of 8-bit pixels, in dB; 99 where there is no error."""
    return 99.0 if mean_squared_error <= 0 else float(10 * np.log10(255**2 / mean_squared_error))
