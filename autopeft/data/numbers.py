"""Numbers in cells: as JSON and Parquet hold them, or written into a CSV.

Read is what programming languages write: digits, a point before a fraction, an exponent. What means one number here and
another one there (a decimal comma, separators of thousands), and what is more than a number (`50%`, `true`), is none.
"""

import math
import re
from decimal import Decimal

import numpy as np

_WRITTEN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
_LONGEST = 400
"""Characters of a number; a double has no more than some three hundred digits."""


def number_in(cell: object) -> float | None:
    """The finite number that a cell holds; None where it holds something else, or nothing."""
    if isinstance(cell, str):
        written = cell.strip()
        number = float(written) if len(written) <= _LONGEST and _WRITTEN.fullmatch(written) else math.nan
    elif isinstance(cell, int | float | Decimal | np.integer | np.floating) and not isinstance(cell, bool):
        try:
            number = float(cell)
        except (OverflowError, ValueError):
            return None
    else:
        return None
    return number if math.isfinite(number) else None
