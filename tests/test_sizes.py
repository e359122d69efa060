import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.errors import AutopeftError
from autopeft.sizes import (
    Share,
    parse_bytes,
    parse_count,
    parse_count_or_share,
    parse_seconds,
    show_bytes,
    show_count,
    show_seconds,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 1024**3),
        ("500 MiB", 500 * 1024**2),
        ("2GB", 2 * 10**9),
        ("1.5KiB", 1536),
        ("10kB", 10_000),
        ("1TiB", 1024**4),
        ("8gib", 8 * 1024**3),
        (" 512 B ", 512),
        ("1,000,000", 10**6),
        ("1_000", 1000),
        (4096, 4096),
        (1e9, 10**9),
        ("1e3 MB", 10**9),
    ],
)
def test_bytes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("500k", 500_000),
        ("1.5M", 1_500_000),
        ("2T", 2 * 10**12),
        ("7B", 7 * 10**9),
        ("500K", 500_000),
        (".5k", 500),
        (0, 0),
    ],
)
def test_counts_are_read_as_people_write_them(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("10 min", 600), ("2h", 7200), ("1d", 86400), (0.5, 0.5)]
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.5 %", 0.005), (" 100% ", 1.0), (Share(0.2), 0.2)])
def test_shares_are_read_as_people_write_them(text, share):
    assert parse_count_or_share(text) == Share(share)


def test_a_count_where_a_share_may_be_is_a_count():
    assert parse_count_or_share("500k") == 500_000
    assert parse_count_or_share(20_000) == 20_000


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "8 G iB", "8XB", "8GiB!", "-1", "1,5GiB", "1e999", "nan", "inf", True, None, "1__0", "8%", "٣GiB"],
)
def test_what_is_no_size_is_answered_with_examples(text):
    with pytest.raises(AutopeftError) as caught:
        parse_bytes(text)
    assert str(caught.value) == f"'{text}' is not a size in bytes; write it like 8GiB, 500MiB or 2GB."


@pytest.mark.parametrize(
    ("parse", "text", "complaint"),
    [
        (parse_count, "many", "'many' is not a number; write it like 500k, 1.5M or 20000."),
        (parse_count, "8GiB", "'8GiB' is not a number; write it like 500k, 1.5M or 20000."),
        (parse_count_or_share, "a lot%", "'a lot' is not a share; write it like 1% or 0.5%."),
        (parse_count_or_share, "1k%", "'1k' is not a share; write it like 1% or 0.5%."),
        (parse_seconds, "2 weeks", "'2 weeks' is not a duration; write it like 90s, 10m or 2h."),
    ],
)
def test_each_kind_of_number_has_its_own_examples(parse, text, complaint):
    with pytest.raises(AutopeftError) as caught:
        parse(text)
    assert str(caught.value) == complaint


def test_a_share_of_a_total_is_never_more_than_the_share():
    assert Share(0.01).of(22_565_376) == 225_653
    assert Share(0.29).of(100) == 29


@given(st.integers(1, 10**10))
def test_a_share_is_read_back_from_its_text(parts):
    share = parse_count_or_share(f"{parts / 10**8}%")
    assert parse_count_or_share(str(share)) == share


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1535, "1.50 KiB"),
        (10 * 1024**2, "10.0 MiB"),
        (99.97 * 1024**2, "100 MiB"),
        (402 * 1024**2, "402 MiB"),
        (1024**3 - 1, "1.00 GiB"),
        (3_242_000_000, "3.02 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_bytes_are_shown_in_three_figures(size, text):
    assert show_bytes(size) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (9_999, "10.0k"),
        (294_912, "295k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
    ],
)
def test_counts_are_shown_in_three_figures(count, text):
    assert show_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (48.2, "48 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (3600, "1 h 00 min"),
    ],
)
def test_durations_are_shown_in_their_two_largest_units(seconds, text):
    assert show_seconds(seconds) == text


@given(st.integers(0, 10**15))
def test_what_is_shown_is_read_back_within_its_three_figures(value):
    assert math.isclose(parse_bytes(show_bytes(value)), value, rel_tol=0.0051, abs_tol=0.51)
    assert math.isclose(parse_count(show_count(value)), value, rel_tol=0.0051, abs_tol=0.51)
