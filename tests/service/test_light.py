"""The service's own process stays light: whatever is asked of it, what imports torch is done beside it."""

import subprocess
import sys
from pathlib import Path

from tests.test_guards import HEAVY, ROOT

PROGRAM = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from autopeft.service.app import create_app
from autopeft.service.settings import Settings
from autopeft.storage.opened import Opened
from autopeft.storage.repository import Repository
from autopeft.storage.tokens import RUN, Tokens
from tests.reports.records import record

place = Path(sys.argv[1])
settings = Settings(storage=f"sqlite:///{place}/searches.db", folder=place / "runs")
opened = Opened(settings.storage)
token = Tokens(opened).add("a", RUN)
opened.close()
with Repository(settings.storage) as repository:
    repository.create(record())
of = f"searches/{record().name}"
api = [f"{of}{more}" for more in ("", "/front", "/trials", "/trials/1", "/search.db", "/report.html", "/report.csv")]
api += ["searches", "spaces", "models", "version", "health", f"{of}/select?memory=1GiB", "openapi.json"]
pages = [f"{of}{more}" for more in ("", "/parts", "/choose?memory=1GiB", "/trials/1/try", "/glance.svg")]
pages += ["searches", "new", f"compare?of={record().name}", "metrics"]
with TestClient(create_app(settings, keeps_queue=False)) as client:
    client.headers["authorization"] = f"Bearer {token}"
    assert client.post("/api/v1/session", json={"token": token}).status_code < 400, "sign in"
    for path in (*pages, *(f"api/v1/{each}" for each in api)):
        assert client.get(f"/{path}").status_code == 200, path
    for path in ("searches", f"{of}/resume", f"{of}/stop"):
        assert client.post(f"/api/v1/{path}", json={"plan": {"model": "m", "data": "d"}}).status_code < 500, path
    assert client.delete(f"/api/v1/{of}").status_code == 200
"""


def test_no_answer_brings_a_library_that_takes_much_memory(tmp_path: Path) -> None:
    program = f"{PROGRAM}\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    asked = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['fastapi', 'sqlalchemy']"
