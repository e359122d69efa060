"""A service in this process, with a user's files in its folders; its queue is kept only where a test asks for it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from autopeft.service.app import create_app
from autopeft.service.settings import Settings
from autopeft.storage.opened import Opened
from autopeft.storage.tokens import READ, RUN

BERT = {
    "model_type": "bert",
    "vocab_size": 96,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
"""Enough for what is asked of a model before it is loaded."""


@dataclass(frozen=True)
class Service:
    """A service and those who ask it."""

    place: Path
    """A folder that holds `model`, `reviews.csv`, and what is not to be read from outside: `secret.csv`."""
    client: TestClient
    """Asks as one who may run."""
    reader: dict[str, str]
    """Headers of one who may read."""
    runner: dict[str, str]
    settings: Settings

    @property
    def office(self) -> Any:
        return self.client.app.state.office  # type: ignore[attr-defined]

    def plan(self, **more: Any) -> dict[str, Any]:
        """A very small search."""
        small = {"space": "quick", "methods": "bitfit", "max_length": 16, "trials": 1}
        return {"model": "model", "data": "reviews.csv", **small, **more}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("user")
    (place / "roots" / "model").mkdir(parents=True)
    (place / "roots" / "model" / "config.json").write_text(json.dumps(BERT))
    (place / "roots" / "model" / "model.safetensors").touch()
    (place / "roots" / "reviews.csv").write_text("text,label\nfine,good\npoor,bad\n")
    (place / "secret.csv").write_text("text,label\nthe password,1\n")
    return place


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables."""
    file = tmp_path_factory.mktemp("database") / "searches.db"
    Opened(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def service(files: Path, empty: Path, tmp_path: Path) -> Iterator[Service]:
    root = files / "roots"
    shutil.copy(empty, tmp_path / "searches.db")
    settings = Settings(
        storage=f"sqlite:///{tmp_path}/searches.db",
        folder=tmp_path / "runs",
        data_roots=(root,),
        model_roots=(root,),
        workers=0,
        upload_limit=100_000,
    )
    app = create_app(settings, keeps_queue=False)
    tokens = app.state.office.tokens
    headers = {role: {"authorization": f"Bearer {tokens.add(f'who may {role}', role)}"} for role in (READ, RUN)}
    with TestClient(app, raise_server_exceptions=False, headers=headers[RUN]) as client:
        yield Service(files, client, headers[READ], headers[RUN], settings)
