"""Whatever a stranger wrote into a database: it is read, or answered in a sentence, by bounded work."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
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
from autopeft.searching.search import open_search
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
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.just({"__float__": []}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return file


def tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


@dataclass(frozen=True)
class Change:
    """What is changed where; each number chooses, as a remainder, among what there is."""

    choices: tuple[int, ...]
    value: Any
    """What a cell gets, or what a value within a cell's JSON becomes."""
    whole: bool
    """Whether a cell of JSON is replaced as a whole."""

    def make(self, database: sqlite3.Connection) -> None:
        table, row, column, drastic, *path = self.choices
        name = among(tables(database), table)
        if drastic < 30:
            database.execute(f"{'DELETE FROM' if drastic % 2 else 'DROP TABLE'} {name}")
            return
        rows = [row for (row,) in database.execute(f"SELECT rowid FROM {name}").fetchall()]
        columns = [column for _, column, *_ in database.execute(f"PRAGMA table_info({name})").fetchall()]
        if rows:
            where, what = among(rows, row), among(columns, column)
            (cell,) = database.execute(f'SELECT "{what}" FROM {name} WHERE rowid = ?', (where,)).fetchall()[0]
            value = self.value
            if isinstance(cell, str) and cell[:1] in ("{", "[") and not self.whole:
                with suppress(ValueError):
                    value = json.dumps(self._within([json.loads(cell)], path)[0])
            elif (
                not isinstance(value, int | float | str | bytes | None)
                or abs(value if type(value) is int else 0) >= 2**63
            ):
                value = json.dumps(value)
            database.execute(f'UPDATE {name} SET "{what}" = ? WHERE rowid = ?', (value, where))

    def _within(self, whole: list[Any], path: list[int]) -> list[Any]:
        """One value, at a depth, is replaced; or taken away."""
        place: Any = whole
        key: Any = 0
        for step in path:
            if isinstance(place[key], dict | list) and place[key]:
                place = place[key]
                key = among(list(place) if isinstance(place, dict) else range(len(place)), step)
        if isinstance(place, dict) and path[0] % 4 == 0:
            del place[key]
        else:
            place[key] = str(self.value) if isinstance(self.value, bytes) else self.value
        return whole


def among(things: Any, choice: int) -> Any:
    return things[choice % len(things)]


changes = st.builds(
    Change,
    st.lists(st.integers(0, 999), min_size=8, max_size=8).map(tuple),
    ABSURD | plain | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=20),
    st.integers(0, 3).map(lambda choice: choice == 0),
)


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


def test_what_nobody_changed_is_read(pristine: Path, tmp_path: Path) -> None:
    file = tmp_path / "searches.db"
    shutil.copy(pristine, file)
    assert len([reading() for reading in readings(f"sqlite:///{file}")]) == 6 + len(formats()) + 1


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(changes, min_size=1, max_size=3))
def test_any_change_is_read_or_answered(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, made: list[Change]
) -> None:
    file = tmp_path_factory.mktemp("tampered") / "searches.db"
    shutil.copy(pristine, file)
    with closing(sqlite3.connect(file)) as database:
        for change in made:
            change.make(database)
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
        ("UPDATE trials SET predicted = replace(predicted, '73728,', '\"many\",')", "cannot be 'many'"),
        ("UPDATE trials SET predicted = replace(predicted, ': 4', ': -4')", "the numbers in Costs do not fit together"),
        ("UPDATE trials SET predicted = '{}'", "TypeError"),
        ('UPDATE searches SET metric = \'{"name": 5, "heading": ""}\'', "Objective.name cannot be 5"),
        ('UPDATE searches SET baselines = \'{"mean": {"score": "good"}}\'', "TypeError"),
        ("UPDATE answers SET rows = 1000000000000", "the numbers in Answers do not fit together"),
        ("UPDATE answers SET score = 9e999", "the numbers in Answers do not fit together"),
        (
            "UPDATE searches SET facts = '{\"validation_rows\": 1' || replace(hex(zeroblob(200)), '0', '0') || '}'",
            "100000",
        ),
        ("DROP TABLE curves", "no such table: curves"),
        ('UPDATE outcomes SET facts = \'{"latency": "slow"}\'', "the fact 'latency' cannot be 'slow'"),
    ],
)
def test_what_was_changed_is_told(pristine: Path, tmp_path: Path, changed: str, said: str) -> None:
    file = tmp_path / "searches.db"
    shutil.copy(pristine, file)
    with closing(sqlite3.connect(file)) as database:
        database.execute(changed)
        database.commit()
    with pytest.raises(AutopeftError, match=said) as error:
        open_search(NAME, f"sqlite:///{file}")
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW trials AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS id FROM n",
        "CREATE VIEW searches AS SELECT 1 AS id, hex(zeroblob(400000000)) AS facts",
        "CREATE TRIGGER t AFTER UPDATE ON searches BEGIN DELETE FROM trials; END",
    ],
)
def test_what_computes_instead_of_holding_is_refused_at_once(pristine: Path, tmp_path: Path, statement: str) -> None:
    file = Path(shutil.copy(pristine, tmp_path / "searches.db"))
    with closing(sqlite3.connect(file)) as database:
        if "VIEW" in statement:
            database.execute(f"DROP TABLE {statement.split()[2]}")
        database.execute(statement)
        database.commit()
    with ended_after(20), pytest.raises(AutopeftError, match="views or triggers stand in the place of tables"):
        open_search(NAME, f"sqlite:///{file}")


def test_a_cell_that_would_take_all_memory_is_refused(pristine: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(pristine, tmp_path / "searches.db"))
    with (
        Repository(f"sqlite:///{file}") as repository,
        ended_after(20),
        pytest.raises(AutopeftError, match="too big"),
        repository._reading() as session,
    ):
        session.connection().exec_driver_sql("SELECT hex(zeroblob(400000000))")
