import time

from hypothesis import given
from hypothesis import strategies as st

from autopeft.errors import AutopeftError
from autopeft.foreign import brief, printable


def test_what_a_terminal_would_obey_is_shown_escaped():
    assert printable("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert printable("\x1b]52;c;aGk=\x07") == "\\x1b]52;c;aGk=\\x07"
    assert printable("\x9b31m\u202egpj") == "\\x9b31m\\u202egpj"
    assert printable("half \ud800") == "half \\ud800"
    assert printable("one\ntwo") == "one\ntwo"
    assert printable("one\ntwo", keep="") == "one\\ntwo"


def test_what_people_write_stays():
    for text in ("naïve café", "中文 العربية עברית", "👩\u200d🚀", "tab-free — “quoted”"):
        assert printable(text) == text


@given(st.text())
def test_nothing_that_is_printed_controls(text: str):
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in printable(text, keep=""))


def test_values_of_any_size_are_cut_by_bounded_work():
    nested: list[object] = ["x"]
    for _ in range(60):
        nested = [nested] * 9
    began = time.perf_counter()
    for value in (nested, "x" * 10**7, b"x" * 10**7, {"a": nested}, 10**5001, -(10**5001), [10**9999]):
        assert len(brief(value)) <= 60
    assert time.perf_counter() - began < 5


def test_short_values_are_shown_whole():
    assert brief("a film") == "'a film'"
    assert brief([1, 2]) == "[1, 2]"
    assert brief(True) == "True"


def test_an_error_is_safe_to_print_and_not_endless():
    error = AutopeftError("label \x1b[2J " + "x" * 100_000 + " at the end.")
    assert "\x1b" not in str(error)
    assert len(str(error)) < 2000
    assert str(error).endswith("at the end.")
