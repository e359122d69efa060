"""Whatever a stranger wrote into a database: it is read, or answered in a sentence, by bounded work."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopeft.cli import main
from autopeft.errors import AutopeftError
from autopeft.reports import formats, render
from autopeft.reports.format.terminal import text
from autopeft.search.search import open_search
from autopeft.storage.repository import Repository
from tests.reports.records import record
from tests.watchdog import ended_after

NAME = record().name
ABSURD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**63 - 1,
        -(2**63),
        1e308,
        -1e308,
        float("inf"),
        "",
        "x",
        "\x1b[2J",
        "9" * 5001,
        "nan",
        b"\xff",
    ]
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just({"__float__": []}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)

cells = ABSURD | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(codec="utf-8"), max_size=20)
cells |= plain.map(json.dumps)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database as autopeft writes it, but for its constraints: whoever changes cells may have dropped them."""
    file = tmp_path_factory.mktemp("pristine") / "searches.db"
    with Repository(f"sqlite:///{file}") as repository:
        repository.create(record())
    with closing(sqlite3.connect(file)) as database:
        for name in tables(database):
            database.execute(f"CREATE TABLE loose AS SELECT * FROM {name}")
            database.execute(f"DROP TABLE {name}")
            database.execute(f"ALTER TABLE loose RENAME TO {name}")
        database.commit()
        database.execute("PRAGMA journal_mode = DELETE")
    return file.read_bytes()


def tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def change(draw: Any, database: sqlite3.Connection) -> None:
    """Changes one cell; or what a cell of JSON holds somewhere; or, seldom, takes away rows or a table."""
    name = draw(st.sampled_from(tables(database)))
    if draw(st.integers(0, 15)) == 0:
        database.execute(draw(st.sampled_from([f"DELETE FROM {name}", f"DROP TABLE {name}"])))
        return
    rows = [row for (row,) in database.execute(f"SELECT rowid FROM {name}")]
    columns = [column for _, column, *_ in database.execute(f"PRAGMA table_info({name})")]
    if rows:
        row, column = draw(st.sampled_from(rows)), draw(st.sampled_from(columns))
        (cell,) = database.execute(f'SELECT "{column}" FROM {name} WHERE rowid = ?', (row,)).fetchone()
        is_json = isinstance(cell, str) and cell[:1] in ("{", "[")
        value = changed_json(draw, cell) if is_json and draw(st.integers(0, 3)) else draw(cells)
        database.execute(f'UPDATE {name} SET "{column}" = ? WHERE rowid = ?', (value, row))


def changed_json(draw: Any, cell: str) -> str:
    """The same JSON with one value in it, at any depth, replaced or taken away."""
    whole = [json.loads(cell)]
    place: Any = whole
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
        place = place[key]
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
        del place[key]
    else:
        place[key] = draw(plain | ABSURD.filter(lambda value: not isinstance(value, bytes)))
    return json.dumps(whole[0])


def readings(storage: str) -> Iterator[Callable[[], object]]:
    """All that reads a database."""
    yield lambda: Repository(storage).__enter__().names()
    for command in (["list"], ["select", NAME, "--trainable", "90%", "--latency", "1h"], ["report"]):
        yield lambda command=command: answered(CliRunner().invoke(main, [*command, "--storage", storage]))
    opened = open_search(NAME, storage)
    yield from (lambda format=format: render(opened.record, format) for format in formats())
    yield lambda: text(opened.record, 40, coloured=True)
    yield lambda: opened.confirmed
    yield lambda: opened.front


def answered(result: Any) -> None:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2)


def read(file: Path) -> None:
    """Reads all there is; raises whatever is no AutopeftError."""
    with ended_after(20), suppress(AutopeftError):
        for reading in readings(f"sqlite:///{file}"):
            with suppress(AutopeftError):
                reading()


def test_what_nobody_changed_is_read(pristine: bytes, tmp_path: Path) -> None:
    file = tmp_path / "searches.db"
    file.write_bytes(pristine)
    assert len([reading() for reading in readings(f"sqlite:///{file}")]) == 6 + len(formats()) + 1


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_change_is_read_or_answered(
    pristine: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("tampered") / "searches.db"
    file.write_bytes(pristine)
    with closing(sqlite3.connect(file)) as database:
        for _ in range(data.draw(st.integers(1, 3))):
            change(data.draw, database)
        database.commit()
    read(file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("UPDATE searches SET plan = '[' || replace(hex(zeroblob(50000)), '0', '[')", "RecursionError|JSONDecodeError"),
        (
            "UPDATE searches SET facts = '{\"validation_rows\": ' || replace(hex(zeroblob(2501)), '0', '9') || '}'",
            "4300",
        ),
        ("UPDATE searches SET facts = '{\"data\": 5}'", "the fact 'data' cannot be 5"),
        ("UPDATE searches SET created = 'yesterday'", "ValueError"),
        ("UPDATE searches SET plan = '{\"model\": [1]}'", "KeyError"),
        ("UPDATE trials SET status = 'dancing'", "dancing"),
        ('UPDATE trials SET candidate = \'{"name": 5, "parts": [], "training": {}}\'', "Candidate.name cannot be 5"),
        ("UPDATE costs SET trainable = 'many'", "trainable cannot be 'many'"),
        ("UPDATE costs SET memory = -5", "the numbers in Costs do not fit together"),
        ("DELETE FROM costs", "KeyError: 'predicted'"),
        ("UPDATE answers SET rows = 1000000000000", "the numbers in Answers do not fit together"),
        ("UPDATE answers SET rows = 8 WHERE number = 1", "the numbers in SearchRecord do not fit together"),
        ("DROP TABLE curves", "no such table: curves"),
        ('UPDATE outcomes SET facts = \'{"latency": "slow"}\'', "the fact 'latency' cannot be 'slow'"),
    ],
)
def test_what_was_changed_is_told(pristine: bytes, tmp_path: Path, changed: str, said: str) -> None:
    file = tmp_path / "searches.db"
    file.write_bytes(pristine)
    with closing(sqlite3.connect(file)) as database:
        database.execute(changed)
        database.commit()
    with pytest.raises(AutopeftError, match=said) as error:
        open_search(NAME, f"sqlite:///{file}")
    assert str(file) in str(error.value)
