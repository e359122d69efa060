"""Whatever a file holds, it is understood or answered, by bounded work."""

import gzip
import json
import signal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopeft.errors import AutopeftError
from autopeft.tasks.text_classification import TextClassification
from autopeft.tasks.understanding import TaskData, understand
from tests.watchdog import ended_after

ROWS = [{"text": f"a film of {number}, they say", "label": ("bad", "good")[number % 2]} for number in range(24)]
FRAME = pd.DataFrame(ROWS)
SECONDS = 20


def parquet() -> bytes:
    held = FRAME.to_parquet()
    assert isinstance(held, bytes)
    return held


SMALL = {
    ".csv": FRAME.to_csv(index=False).encode(),
    ".tsv": FRAME.to_csv(sep="\t").encode("utf-16"),
    ".txt": b"sep=|\n" + FRAME.to_csv(sep="|", quoting=1).encode(),
    ".csv.gz": gzip.compress(FRAME.to_csv(index=False).encode()),
    ".json": json.dumps({"data": ROWS}, indent=1).encode(),
    ".jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    ".parquet": parquet(),
}


def outcome(path: Path, held: bytes, **named: tuple[str, ...]) -> TaskData | str:
    path.write_bytes(held)
    data: TaskData | None = None
    said = ""
    with ended_after(SECONDS):
        try:
            data = understand(str(path), named, "text-classification")
        except AutopeftError as error:
            said = str(error)
    assert len(said) < 2000
    if data is None:
        return said
    assert isinstance(data.task, TextClassification)
    classes = data.task.classes
    assert len(data.splits["train"]) >= len(classes) >= 2
    assert all(map(str.strip, classes))
    json.dumps([classes, data.described()], ensure_ascii=False).encode()
    return data


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A small valid file with some bytes changed, cut out, doubled or put in."""
    kind = draw(st.sampled_from(sorted(SMALL)))
    held = bytearray(SMALL[kind])
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(held))), draw(st.integers(0, len(held)))))
        short = min(end, at + draw(st.sampled_from((0, 1, 8, 10_000))))
        piece = draw(
            st.binary(max_size=8)
            | st.sampled_from(
                (b'"', b"\n", b"\r", b"\0", b"\\", b"{", b"[" * 2000, b"9" * 5000, b"\xef\xbb\xbf", b",,")
            )
            | st.just(bytes(held[at:short]) * 2)
        )
        held[at:short] = piece
    return kind, bytes(held)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_a_damaged_file_is_understood_or_answered(tmp_path_factory, file):
    kind, held = file
    outcome(tmp_path_factory.getbasetemp() / f"damaged{kind}", held)


@settings(max_examples=60)
@given(st.sampled_from(sorted(SMALL)), st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_random_bytes_are_answered(tmp_path_factory, kind, held):
    outcome(tmp_path_factory.getbasetemp() / f"random{kind}", held)
    if kind == ".csv.gz":
        outcome(tmp_path_factory.getbasetemp() / f"random{kind}", gzip.compress(held))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(("-0.0", "nan", "\\N", "é", "e\u0301", "1.0", "1,5", "true", " ", "\u00a0", "\ud83d", "x" * 1000)),
    st.lists(st.integers(), max_size=2),
)
NAMES = st.sampled_from(("text", "label", "", "Unnamed: 0", "label ", "\ufefftext", "0", "a\nb")) | st.text(max_size=4)


@settings(max_examples=120)
@given(
    st.lists(st.tuples(NAMES, st.lists(VALUES, min_size=1, max_size=4)), min_size=1, max_size=4),
    st.integers(0, 30),
    st.sampled_from((".csv", ".tsv", ".json", ".jsonl")),
    st.booleans(),
)
def test_any_table_is_understood_or_answered(tmp_path_factory, columns, rows, kind, named):
    table = [{name: values[row % len(values)] for name, values in columns} for row in range(rows)]
    for row, each in enumerate(table):
        each.setdefault("text", f"a film of {row}")
    match kind:
        case ".csv" | ".tsv":
            held = (
                pd.DataFrame(table, dtype=object)
                .to_csv(index=False, sep=",\t"[kind == ".tsv"])
                .encode("utf-8", "replace")
            )
        case ".json":
            held = json.dumps(table).encode()
        case _:
            held = "\n".join(map(json.dumps, table)).encode()
    first = columns[0][0].strip()
    given_names = {"text": ("text",), "label": first} if named and first not in ("", "text") else {}
    outcome(tmp_path_factory.getbasetemp() / f"table{kind}", held, **given_names)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_whole_file_is_understood(tmp_path, kind):
    assert isinstance(outcome(tmp_path / f"whole{kind}", SMALL[kind]), TaskData)


def test_a_watchdog_ends_what_hangs(monkeypatch):
    monkeypatch.setattr(signal, "alarm", lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds / 1000))
    with pytest.raises(TimeoutError), ended_after(SECONDS):
        signal.pause()
