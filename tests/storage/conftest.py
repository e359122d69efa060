"""A database for each test: SQLite, or what AUTOPEFT_TEST_STORAGE names, which is emptied (see storage/README.md)."""

import os
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a database without tables."""
    given = os.environ.get("AUTOPEFT_TEST_STORAGE")
    if given is None:
        return f"sqlite:///{tmp_path}/searches.db"
    engine, found = create_engine(given), MetaData()
    found.reflect(engine)
    found.drop_all(engine)
    engine.dispose()
    return given
