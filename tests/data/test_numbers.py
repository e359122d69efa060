from decimal import Decimal

import numpy as np
import pytest

from autopeft.data.numbers import number_in


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (3, 3.0),
        (-0.25, -0.25),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3.0),
        (Decimal("1.25"), 1.25),
        ("3", 3.0),
        (" +1.5 ", 1.5),
        (".5", 0.5),
        ("4.", 4.0),
        ("-1.5e-3", -0.0015),
        ("2E3", 2000.0),
    ],
)
def test_numbers_are_read_as_programs_hold_and_write_them(cell, number):
    assert number_in(cell) == number


@pytest.mark.parametrize(
    "cell",
    [
        *("", " ", "good", "1,5", "1,234.5", "1 234", "1_000", "50%", "$3", "1.2.3", "0x10", "nan", "inf", "-Infinity"),
        *("1e999", "9" * 401, "٣", "⅔", "e5", "."),
        *(None, True, np.True_, float("nan"), float("inf"), 10**400, Decimal("NaN"), Decimal("sNaN"), [1.0], b"1", 1j),
    ],
)
def test_what_is_no_finite_number_is_none(cell):
    assert number_in(cell) is None
