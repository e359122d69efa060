"""What is declared is read by bounded work, and every slip is answered in a sentence that names the file."""

import time
from pathlib import Path

import pytest

from autopeft.declared import read_declared
from autopeft.errors import AutopeftError
from autopeft.plan import Plan
from autopeft.space.cards import load_cards


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "plan.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "anchors are used so often that more is meant than anybody declares"),
        ("a: &a {x: 1, y: 2, z: 3, v: 4, w: 5}\n" + "b: {<<: [" + "*a," * 80_000 + "]}", "anchors are used so often"),
        ("a: &a [*a]", "*a holds itself"),
        ("[" * 100_000, "exceeded maximum nesting depth"),
        ("[" * 100, "nested more than 32 levels deep"),
        ("- " * 100_000, "nested more than 32 levels deep"),
        ("? " * 100_000, "nested more than 32 levels deep"),
        ("a: " + "9" * 5001, "999999999999… is no number"),
        ("a: 1" + ":1" * 100_000, "1:1:1:1:1:1:… is no number"),
        ("trials: 3\ntrials: 4", "'trials' stands twice line 2, column 1"),
        ("a: !!int x", "tags such as 'tag:yaml.org,2002:int' mean nothing here"),
        ("a: !!python/object/apply:os.system [ls]", "mean nothing here"),
        ("a: =", "could not determine a constructor"),
        ("{[a]: b}", "found unhashable key"),
        ("a: b\n---\nc: d", "expected a single document"),
        (b"\xff\xfea\x00", "codec can't decode"),
        ("#" * 300_000, "is longer than 256 KiB"),
    ],
)
def test_what_would_take_all_time_or_memory_is_refused_at_once(tmp_path: Path, text: str | bytes, said: str) -> None:
    began = time.process_time()
    with pytest.raises(AutopeftError, match=r"plan\.yaml") as error:
        read_declared(write(tmp_path, text))
    assert said in str(error.value)
    assert "unicode string" not in str(error.value)
    assert time.process_time() - began < 10


def test_simple_anchors_and_merged_keys_are_read(tmp_path: Path) -> None:
    assert read_declared(write(tmp_path, "\ufeffa: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]")) == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }


def test_a_date_is_a_text(tmp_path: Path) -> None:
    assert Plan.from_yaml(write(tmp_path, "model: m\ndata: 2026-11-29\n")).data == "2026-11-29"
    assert read_declared(write(tmp_path, "a: 2026-13-45")) == {"a": "2026-13-45"}


def test_cards_are_read_by_the_same_bounds(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    write(tmp_path / "methods", "[" * 100)
    with pytest.raises(AutopeftError, match="nested more than 32 levels deep"):
        load_cards(tmp_path)
    (tmp_path / "methods" / "plan.yaml").unlink()
    (tmp_path / "methods" / "folder.yaml").mkdir()
    with pytest.raises(AutopeftError, match=r"cannot read .*Is a directory"):
        load_cards(tmp_path)
