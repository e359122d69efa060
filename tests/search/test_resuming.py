"""Going on with a search: in its turn, on the same backbone and data, from wherever its files lie now."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import autopeft
from autopeft.errors import AutopeftError
from autopeft.storage.repository import Repository
from tests.reports.records import trial

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from autopeft.storage.repository import Repository
from autopeft.trial import Status
from tests.reports.records import CREATED, bare, trial

with Repository(sys.argv[1]) as repository:
    repository.create(bare(trial(1, accuracies=(), status=Status.TRAINING), ended=False))
    print("training", flush=True)
    sys.stdin.readline()
    repository.record("bare", trial(1))
    repository.update("bare", ended=CREATED)
"""


def test_what_another_process_finishes_while_a_resume_waits_for_its_turn_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    command = [sys.executable, "-c", DRIVER, storage]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdout is not None
    assert other.stdout.readline() == "training\n"

    def claim_after_the_other(repository: Repository, name: str) -> None:
        other.communicate("finish\n", timeout=60)
        claim(repository, name)

    claim: Callable[[Repository, str], None] = Repository.claim
    monkeypatch.setattr(Repository, "claim", claim_after_the_other)
    with pytest.raises(AutopeftError, match="search 'bare' reached its limits already"):
        autopeft.resume("bare", storage=storage, workers=0)
    assert other.returncode == 0
    assert autopeft.open("bare", storage=storage).trials == (trial(1),)
