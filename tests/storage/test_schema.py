"""The migrations and the models are one schema, and every database is brought to it or answered."""

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.dialects import mssql, mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

from autopeft.errors import AutopeftError
from autopeft.plan import Budget, Plan
from autopeft.shipped import shipped
from autopeft.storage import models, service  # noqa: F401 (they declare the tables)
from autopeft.storage.base import Base
from autopeft.storage.database import connect, read_url
from autopeft.storage.repository import Repository
from autopeft.storage.schema import bring_up_to_date, migrate, version, versions
from tests.reports.records import record

MIGRATIONS = shipped("storage") / "migrations"

LATER = f"{int(versions()[-1]) + 1:04d}"
MIGRATION = f'''
"""Searches have an owner."""

import sqlalchemy as sa
from alembic import op

revision = "{LATER}"
down_revision = "{versions()[-1]}"


def upgrade() -> None:
    with op.batch_alter_table("searches") as searches:
        searches.alter_column("name", type_=sa.String(300))
        searches.add_column(sa.Column("owner", sa.String(20), nullable=True))
'''


@pytest.fixture
def engine(url: str) -> Engine:
    return connect(read_url(url))


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The next migration, of a later autopeft; reading it makes this autopeft that later one."""
    shutil.copytree(MIGRATIONS, tmp_path / "later" / "migrations")
    monkeypatch.setattr("autopeft.storage.schema.shipped", lambda _: tmp_path / "later")
    migration = tmp_path / "later" / "migrations" / "versions" / f"{LATER}_owner.py"
    migration.write_text(MIGRATION)
    return migration


def open_and_close(url: str) -> None:
    with Repository(url):
        pass


def test_the_migrations_make_exactly_the_tables_of_the_models(engine: Engine, url: str) -> None:
    bring_up_to_date(engine, read_url(url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_going_back_leaves_no_table_and_can_be_gone_forward_again(engine: Engine, url: str) -> None:
    bring_up_to_date(engine, read_url(url))
    migrate(engine, lambda config: command.downgrade(config, "base"))
    assert inspect(engine).get_table_names() == ["alembic_version"]
    assert version(engine) is None
    bring_up_to_date(engine, read_url(url))
    assert version(engine) == versions()[-1]
    engine.dispose()


def test_the_numbers_of_the_files_are_the_versions_that_alembic_knows() -> None:
    revisions = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    assert tuple(each.revision for each in revisions)[::-1] == versions()


@pytest.mark.parametrize("dialect", [mssql, mysql, postgresql, sqlite])
def test_every_table_can_be_made_in_other_databases(dialect: object) -> None:
    for table in Base.metadata.tables.values():
        assert table.name in str(CreateTable(table).compile(dialect=dialect.dialect()))  # type: ignore[attr-defined]


def test_an_older_database_is_migrated_when_it_is_opened_and_keeps_its_trials(
    url: str, request: pytest.FixtureRequest
) -> None:
    with Repository(url) as repository:
        repository.create(record())
    request.getfixturevalue("later")
    with Repository(url) as repository:
        assert repository.load(record().name) == record()
    engine = create_engine(url)
    assert "owner" in {column["name"] for column in inspect(engine).get_columns("searches")}
    engine.dispose()


def test_a_database_of_the_first_version_keeps_its_trials_and_takes_confirmations(url: str, engine: Engine) -> None:
    before = replace(record(), confirmations=())
    with Repository(url) as repository:
        repository.create(before)
    migrate(engine, lambda config: command.downgrade(config, "0001"))
    engine.dispose()
    with Repository(url) as repository:
        assert repository.load(before.name) == before
        for each in record().confirmations:
            repository.confirm(before.name, each)
        assert repository.load(before.name) == record()


def test_a_limit_on_accuracy_of_before_is_one_on_the_score(url: str, engine: Engine) -> None:
    plan = Plan("mini", "d.csv", objectives=("score", "flops"), budget=Budget(score=0.85))
    limited = replace(record(), plan=plan)
    with Repository(url) as repository:
        repository.create(limited)
    migrate(engine, lambda config: command.downgrade(config, "0004"))
    with engine.connect() as connection:
        before = json.loads(str(connection.scalar(text("SELECT CAST(plan AS TEXT) FROM searches"))))
    engine.dispose()
    assert before["objectives"] == ["accuracy", "flops"]
    assert before["budget"]["accuracy_at_least"] == 0.85
    with Repository(url) as repository:
        assert repository.load(limited.name) == limited


def test_a_migration_that_fails_leaves_the_older_database_whole(
    url: str, later: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration, before = later.read_text(), versions()[-2]
    later.unlink()
    with Repository(url) as repository:
        repository.create(record())
    later.write_text(f"{migration}    op.execute('SELECT no_such_column FROM searches')\n")
    monkeypatch.setattr("autopeft.storage.schema._PAUSE", 0)
    with pytest.raises(AutopeftError, match="no_such_column"):
        open_and_close(url)
    assert version(engine) == before
    assert "owner" not in {column["name"] for column in inspect(engine).get_columns("searches")}
    engine.dispose()
    later.unlink()
    with Repository(url) as repository:
        assert repository.load(record().name) == record()


def test_a_fresh_file_that_another_program_writes_to_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "searches.db"
    writer = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    writer.execute("CREATE TABLE other (number)")
    writer.execute("BEGIN IMMEDIATE")
    moment = Timer(0.5, writer.execute, ["COMMIT"])
    moment.start()
    with Repository(f"sqlite:///{file}") as repository:
        repository.create(record())
        assert repository.names() == (record().name,)
    moment.join()
    writer.close()


def test_a_newer_database_is_refused_and_left_alone(url: str, engine: Engine) -> None:
    bring_up_to_date(engine, read_url(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(AutopeftError) as error:
        open_and_close(url)
    answer = str(error.value)
    assert f"have version '9999', but this autopeft knows versions up to '{versions()[-1]}'; install" in answer
    assert version(engine) == "9999"
    engine.dispose()


def test_a_database_that_is_up_to_date_is_opened_without_alembic(url: str) -> None:
    with Repository(url) as repository:
        repository.create(record())
    program = (
        "import sys; from autopeft.storage.repository import Repository\n"
        f"with Repository({url!r}) as repository: print(repository.names())\n"
        "print([name for name in sys.modules if name.startswith('alembic')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"('{record().name}',)\n[]\n"
