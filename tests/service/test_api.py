"""The API as programs meet it: searches, the queue, reports, what there is; slips get the command line's sentences."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autopeft.plan import Plan, field_docs
from autopeft.service.problems import PROBLEM
from autopeft.shipped import shipped
from autopeft.storage.holding import Holding
from autopeft.storage.queue import ENDED
from autopeft.storage.repository import Repository
from autopeft.trial import Costs
from tests.own import TASK
from tests.reports.records import record
from tests.service.conftest import Service

API = "/api/v1"


def detail(answer: Any, status: int) -> str:
    """The sentence of a problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["status"] == status
    return str(answer.json()["detail"])


def remembered(service: Service) -> str:
    """A finished search that a command line made."""
    whole = replace(record(), plan=replace(record().plan, model=str(service.place / "roots" / "model")))
    with Repository(service.settings.storage) as repository:
        repository.create(whole)
    return whole.name


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_a_search_waits_with_its_places_as_they_are_on_the_machine(service: Service) -> None:
    answer = service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "reviews"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{API}/searches/reviews"
    assert answer.json()["state"] == "waiting"
    assert answer.json()["place"] == 1
    assert answer.json()["data"] == str(service.place / "roots" / "reviews.csv")
    assert answer.json()["begun_by"] == "who may run"
    detail(service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "reviews"}), 409)
    unnamed = service.client.post(f"{API}/searches", json={"plan": service.plan()}).json()["name"]
    assert unnamed.startswith("reviews-")
    assert service.client.get(f"{API}/searches").json()["total"] == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'. Did you mean 'tpe'?"),
        ({"trails": 3}, "unknown plan field 'trails'. Did you mean 'trials'?"),
        ({"trials": 0}, "trials must be at least 1, not 0."),
        ({"methods": "lorra"}, "unknown method 'lorra'"),
        ({"budget": {"memory": "8Gib!"}}, "'8Gib!' is not a size in bytes; write it like 8GiB"),
        ({"task": "text-clasification"}, "Did you mean 'text-classification'?"),
        ({"model": None}, "a plan needs 'model'."),
    ],
)
def test_a_slip_in_a_plan_is_answered_as_on_the_command_line(
    service: Service, changed: dict[str, Any], said: str
) -> None:
    answer = service.client.post(f"{API}/searches", json={"plan": service.plan(**changed), "name": "reviews"})
    assert said in detail(answer, 400)
    assert service.client.get(f"{API}/searches").json()["total"] == 0


def test_the_queue_is_moved_stopped_and_gone_on_with(service: Service) -> None:
    for name in ("a", "b", "c"):
        service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": name})
    assert service.client.post(f"{API}/searches/c/move", json={"place": 1}).json()["place"] == 1
    assert service.client.post(f"{API}/searches/a/stop").json()["state"] == "stopped"
    assert "'a' is stopped" in detail(service.client.post(f"{API}/searches/a/stop"), 409)
    assert service.client.post(f"{API}/searches/a/resume").json()["place"] == 3
    listed = service.client.get(f"{API}/searches", params={"state": "waiting", "limit": 2}).json()
    assert (listed["total"], [each["name"] for each in listed["searches"]]) == (3, ["c", "b"])
    assert service.client.delete(f"{API}/searches/c").json() == {"trials": 0, "freed": 0}
    assert "unknown search 'c'" in detail(service.client.get(f"{API}/searches/c"), 404)


def test_a_search_that_has_not_begun_has_no_report(service: Service) -> None:
    service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "a"})
    for path in ("front", "trials", "trials/1", "report.html", "select", "trials/1/winner.zip"):
        assert "has not begun yet; it is waiting." in detail(service.client.get(f"{API}/searches/a/{path}"), 404)


def test_a_search_of_the_command_line_is_looked_at(service: Service) -> None:
    name = remembered(service)
    assert service.client.get(f"{API}/searches/{name}").json()["state"] == "ended"
    whole = service.client.get(f"{API}/searches/{name}/report.json").json()
    front = service.client.get(f"{API}/searches/{name}/front").json()
    assert [each["number"] for each in front] == whole["front"]
    assert len(service.client.get(f"{API}/searches/{name}/trials").json()) == len(record().trials)
    assert service.client.get(f"{API}/searches/{name}/trials/1").json()["number"] == 1
    assert "has no trial 99" in detail(service.client.get(f"{API}/searches/{name}/trials/99"), 404)
    assert service.client.get(f"{API}/searches/{name}/report.csv").text.startswith("trial,status,")
    page = service.client.get(f"{API}/searches/{name}/report.html")
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "<title>" in page.text
    detail(service.client.get(f"{API}/searches/{name}/report.exe"), 404)
    chosen = service.client.get(f"{API}/searches/{name}/select", params={"trainable": "80k"}).json()
    assert chosen["trial"]["predicted"]["trainable"] <= 80_000
    assert "memory" in detail(service.client.get(f"{API}/searches/{name}/select", params={"memory": "1"}), 400)


def test_a_report_is_made_once_until_more_is_known(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    name = remembered(service)
    made: list[str] = []
    monkeypatch.setattr("autopeft.service.known.render", lambda _, format: made.append(format) or f"{len(made)}")
    for _ in range(3):
        assert service.client.get(f"{API}/searches/{name}/report.csv").text == "1"
    with Repository(service.settings.storage) as repository:
        repository.record(name, replace(record().trials[0], number=77))
    assert service.client.get(f"{API}/searches/{name}/report.csv").text == "2"


def test_what_a_command_line_began_is_gone_on_with_only_below_the_roots(service: Service) -> None:
    name = remembered(service)  # Its data lies nowhere.
    assert "in the folders that this service reads" in detail(
        service.client.post(f"{API}/searches/{name}/extend", json={"trials": 90}), 403
    )
    detail(service.client.post(f"{API}/searches/{name}/stop"), 404)


def test_events_are_followed_and_gone_on_with_after_the_last_one(service: Service) -> None:
    service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "a"})
    holding = Holding(service.office.opened)
    held = holding.take("here", 1)
    assert held is not None
    holding.tell(held, "doing", {"doing": "reading <b>the</b> data\n\nid: 77"})
    holding.finish(held, ENDED)
    path = f"{API}/searches/a/events"
    heard = events(service.client.get(path, params={"follow": False}).text)
    assert [each["number"] for each in heard] == [1, 2, 3, 4]
    assert [each["kind"] for each in heard] == ["state", "state", "doing", "state"]
    assert heard[2]["doing"] == "reading <b>the</b> data\n\nid: 77"
    later = service.client.get(path, params={"follow": False}, headers={"Last-Event-ID": "2"})
    assert [each["number"] for each in events(later.text)] == [3, 4]
    detail(service.client.get(path, headers={"Last-Event-ID": "x"}), 422)


def test_the_document_describes_every_field_of_a_plan_by_its_own_words(service: Service) -> None:
    whole = service.client.get(f"{API}/openapi.json").json()
    plan = whole["components"]["schemas"]["NewSearch"]["properties"]["plan"]
    docs = field_docs(Plan)
    assert {name: each["description"] for name, each in plan["properties"].items()} == docs
    assert plan["properties"]["budget"]["properties"]["memory"]["description"]
    told = [one for path in whole["paths"].values() for one in path.values()]
    assert all(each.get("summary") for each in told)


def test_every_answer_is_described_with_its_problems(service: Service) -> None:
    whole = service.client.get(f"{API}/openapi.json").json()
    schemas = whole["components"]["schemas"]
    for path, verbs in whole["paths"].items():
        for told in verbs.values():
            answers = told["responses"]
            problem = answers["default"]["content"][PROBLEM]["schema"]
            assert problem["properties"]["detail"]["description"], path
            good = next(each for status, each in answers.items() if status.startswith("2"))
            shapes = [each["schema"] for each in good.get("content", {}).values()]
            assert shapes or "204" in answers, path
            assert all(shapes) or "report" in path, path
            assert {"type": "object", "additionalProperties": True} not in shapes, path
    for name, schema in schemas.items():
        assert schema.get("description"), name
    trial = whole["paths"][f"{API}/searches/{{name}}/trials/{{number}}"]["get"]["responses"]["200"]["content"]
    described = trial["application/json"]["schema"]["properties"]["predicted"]["properties"]["memory"]["description"]
    assert described == field_docs(Costs)["memory"]


def test_metrics_tell_of_queue_trials_and_requests(service: Service) -> None:
    name = remembered(service)
    service.client.post(f"{API}/searches", json={"plan": service.plan(), "name": "a"})
    service.client.get(f"{API}/searches/{name}/front")
    told = service.client.get("/metrics").text
    assert 'autopeft_searches{state="waiting"} 1.0' in told
    assert 'autopeft_trials{status="failed"} 2.0' in told
    assert 'path="/searches/{name}/front",status="200"' in told
    assert name not in told
    assert "process_resident_memory_bytes" in told
    service.client.headers.pop("authorization")
    detail(service.client.get("/metrics"), 401)


def test_a_search_travels_as_a_database_of_its_own(service: Service, tmp_path: Path) -> None:
    name = remembered(service)
    file = tmp_path / "one.db"
    file.write_bytes(service.client.get(f"{API}/searches/{name}/search.db").content)
    with Repository(f"sqlite:///{file}") as there, Repository(service.settings.storage) as here:
        assert there.load(name).trials == here.load(name).trials
        assert there.names() == (name,)


def test_health_and_version_need_no_token(service: Service) -> None:
    for path in ("health", "version"):
        assert service.client.get(f"{API}/{path}", headers={"authorization": ""}).status_code == 200


def test_spaces_and_models_are_listed(service: Service) -> None:
    assert "quick" in {each["name"] for each in service.client.get(f"{API}/spaces").json()}
    models = service.client.get(f"{API}/models").json()
    assert models == [str(service.place / "roots" / "model")]


def test_an_uploaded_file_is_understood_before_a_search(service: Service) -> None:
    rows = "text,label,n\n" + "".join(f"a film {n},{'good' if n % 2 else 'bad'},{n}\n" for n in range(40))
    sent = service.client.post(f"{API}/uploads", params={"name": "rows.csv"}, content=rows.encode())
    assert sent.status_code == 201, sent.text
    assert sent.json()["bytes"] == len(rows)
    named = {"name": "Notizen, u\u0308bersetzt (1).csv"}
    assert service.client.post(f"{API}/uploads", params=named, content=rows.encode()).status_code == 201
    slip = {"data": sent.json()["data"], "label": "label"}
    assert "label" in detail(service.client.post(f"{API}/understand", json=slip), 422)
    asked = {"data": sent.json()["data"], "plan": {"text": "text", "label": "label"}}
    seen = service.client.post(f"{API}/understand", json=asked).json()
    assert seen["columns"] == ["text", "label", "n"]
    assert seen["task"] == "text-classification"
    assert seen["labels"] == ["bad", "good"]
    assert len(seen["examples"]) == 5
    assert seen["words"] == len(["a", "film", "39"])
    unknown = service.client.post(f"{API}/searches", json={"plan": service.plan(metric="f1_macroo")})
    assert "unknown metric 'f1_macroo'. Did you mean 'f1_macro'?" in detail(unknown, 400)
    wrong = {**asked, "plan": {"label": "lable"}}
    assert "'lable'" in detail(service.client.post(f"{API}/understand", json=wrong), 400)
    estimate = {"model": "model", "length": 16, "space": "quick"}
    costs = service.client.post(f"{API}/estimate", json=estimate).json()
    assert {"lora", "bitfit"} <= {each["name"] for each in costs["methods"]}
    made = service.client.post(f"{API}/searches", json={"plan": service.plan(data=sent.json()["data"]), "name": "up"})
    assert made.status_code == 201


@pytest.mark.parametrize("range_", ["", "bytes=99999999999-", "bytes=zzz", "bytes=5-1"])
def test_of_a_winner_that_was_taken_away_nothing_is_left(
    service: Service, range_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = remembered(service)

    def export(_: float, __: Any, *, to: str, **___: Any) -> str:
        (Path(to) / "winner").mkdir()
        (Path(to) / "winner.zip").write_bytes(b"zipped" * 500_000)
        return str(Path(to) / "winner.zip")

    monkeypatch.setattr(service.office.apart, "run", export)
    killed = service.settings.folder / "export-of-a-service-that-was-killed"
    killed.mkdir(parents=True)
    os.utime(killed, (0, 0))
    answer = service.client.get(f"{API}/searches/{name}/trials/1/winner.zip", headers={"range": range_})
    assert answer.status_code == 200
    assert answer.content == b"zipped" * 500_000
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''{name}-1-peft.zip"
    assert not [*service.settings.folder.glob("export-*")]


@pytest.mark.parametrize("more", [{}, {"time": "nonsense"}, {"time": -5}, {"time": "0s"}, {"time": ""}, {"trials": 1}])
def test_more_of_a_search_must_be_more(service: Service, more: dict[str, Any]) -> None:
    name = remembered(service)
    assert detail(service.client.post(f"{API}/searches/{name}/extend", json=more), 400).endswith(".")
    assert service.office.entry(name) is None


def test_uploads_that_nobody_used_for_a_day_and_logs_of_deleted_searches_go(service: Service) -> None:
    def upload() -> str:
        rows = b"text,label\nfine,good\npoor,bad\n"
        told = service.client.post(f"{API}/uploads", params={"name": "a.csv"}, content=rows).json()
        return str(told["data"])

    def folder(data: str) -> str:
        return data.split(":")[1].split("/")[0]

    used = upload()
    asked = {"plan": service.plan(data=used), "name": "a"}
    assert service.client.post(f"{API}/searches", json=asked).status_code == 201
    upload()
    for each in service.settings.uploads.iterdir():
        os.utime(each, (0, 0))
    latest = upload()
    assert {each.name for each in service.settings.uploads.iterdir()} == {folder(used), folder(latest)}
    service.settings.logs.mkdir(parents=True)
    service.settings.log_of("a").write_text("it began")
    service.client.post(f"{API}/searches/a/stop")
    assert service.client.delete(f"{API}/searches/a").status_code == 200
    assert not service.settings.log_of("a").exists()


@pytest.fixture
def trusting(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The same service, started with `--trust my_task.py:TwoNumbers --trust cards` where these lie."""
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "cards" / "methods").mkdir(parents=True)
    shutil.copy(shipped("search_spaces") / "methods" / "bitfit.yaml", tmp_path / "cards" / "methods" / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    trusted = ("my_task.py:TwoNumbers", "cards")
    monkeypatch.setattr(service.office, "settings", replace(service.settings, trusted=trusted))
    return service


def test_code_that_may_be_searched_with_may_be_understood_and_estimated(trusting: Service) -> None:
    rows = "text,quality,length\n" + "".join(f"a film {n},{n / 7},{n % 5}\n" for n in range(40))
    (trusting.settings.uploads / ("a" * 32)).mkdir(parents=True)
    (trusting.settings.uploads / ("a" * 32) / "rows.csv").write_text(rows)
    data = f"upload:{'a' * 32}/rows.csv"
    mine = {"task": "my_task.py:TwoNumbers", "space": "cards"}
    plan = {**trusting.plan(data=data, **mine), "methods": "mine"}
    assert trusting.client.post(f"{API}/searches", json={"plan": plan, "name": "own"}).status_code == 201
    seen = trusting.client.post(f"{API}/understand", json={"data": data, "plan": mine})
    assert seen.status_code == 200, seen.text
    assert (seen.json()["task"], seen.json()["rows"]["train"]) == ("two-numbers", 27)
    costs = trusting.client.post(f"{API}/estimate", json={"model": "model", "length": 16, **mine})
    assert costs.status_code == 200, costs.text
    assert [each["name"] for each in costs.json()["methods"]] == ["mine"]
    for what, other in (("task", "my_task.py:Other"), ("task", "other.py:TwoNumbers"), ("space", str(Path.cwd()))):
        for path, asked in (
            ("understand", {"data": data, "plan": {what: other}}),
            ("estimate", {"model": "model", what: other}),
        ):
            said = detail(trusting.client.post(f"{API}/{path}", json=asked), 403)
            assert "come only from the operator of this service" in said
    named = {each["name"]: each for each in trusting.client.get(f"{API}/tasks").json()}
    assert "my_task.py:TwoNumbers" in named
    assert named["text-classification"]["roles"]["text"]
    assert {each["name"]: each["methods"] for each in trusting.client.get(f"{API}/spaces").json()}["cards"] == ["mine"]
    assert "'auto'" in detail(trusting.client.post(f"{API}/estimate", json={"model": "model", "space": "auto"}), 400)


def test_what_is_trusted_is_a_task_a_metric_or_cards_and_nothing_of_it_runs_to_tell_which(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "raise SystemExit\nclass Stars: ...\ndef share(truths, answers): ...\nfrom elsewhere import other\n"
    (tmp_path / "mine.py").write_text(text)
    (tmp_path / "cards").mkdir()
    monkeypatch.chdir(tmp_path)
    trusted = ("mine.py:Stars", "mine.py:share", "mine.py:other", "cards")
    settings = replace(service.settings, trusted=trusted)
    assert settings.trusted_as("task") == ["mine.py:Stars", "mine.py:other"]
    assert settings.trusted_as("metric") == ["mine.py:share", "mine.py:other"]
    assert settings.trusted_as("space") == ["cards"]
    monkeypatch.setattr(service.office, "settings", settings)
    assert "mine.py:Stars" in {each["name"] for each in service.client.get(f"{API}/tasks").json()}
    for changed in ({"task": "mine.py:share"}, {"metric": "mine.py:Stars"}, {"space": "mine.py:Stars"}):
        answer = service.client.post(f"{API}/searches", json={"plan": service.plan(**changed)})
        assert "come only from the operator" in detail(answer, 403)


def test_a_winner_that_is_read_with_trusted_code_is_asked_with_it(
    trusting: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = trusting.office.settings.trusted_code["my_task.py:TwoNumbers"]
    whole = replace(record(), plan=replace(record().plan, task=own))
    with Repository(trusting.settings.storage) as repository:
        repository.create(whole)
    given: dict[str, Any] = {}

    def run(_: float, __: object, **asked: Any) -> dict[str, str]:
        given.update(asked)
        return {"answer": "a", "of": "b", "baseline": "c"}

    monkeypatch.setattr(trusting.office.answering, "run", run)
    asked = trusting.client.post(f"{API}/searches/{whole.name}/trials/1/answer", json={"text": "fine"})
    assert asked.json() == {"answer": "a", "of": "b", "baseline": "c"}
    assert (given["own"], given["text"]) == ([own], "fine")


@pytest.mark.parametrize(
    ("called", "path"),
    [
        ("pathlib.Path.mkdir", "uploads"),
        ("pathlib.Path.open", "uploads"),
        ("autopeft.service.uploads._require_room", "uploads"),
        ("pathlib.Path.mkdir", "winner.zip"),
        ("tempfile.TemporaryDirectory", "winner.zip"),
        ("autopeft.service.known.TemporaryDirectory", "search.db"),
    ],
)
def test_a_disk_that_takes_nothing_is_told_and_nothing_is_left(
    service: Service, monkeypatch: pytest.MonkeyPatch, called: str, path: str
) -> None:
    name = remembered(service)
    before = {*service.settings.folder.rglob("*")}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("autopeft.service.uploads._FLUSHED", 1)
    monkeypatch.setattr(called, full)
    if path == "uploads":
        answer = service.client.post(f"{API}/uploads", params={"name": "a.csv"}, content=b"a,b\n1,2\n")
    else:
        where = f"searches/{name}/trials/1/{path}" if path == "winner.zip" else f"searches/{name}/{path}"
        answer = service.client.get(f"{API}/{where}")
    monkeypatch.undo()
    assert detail(answer, 507) == "the service cannot write to its disk: No space left on device; ask its operator."
    assert {*service.settings.folder.rglob("*")} - {service.settings.uploads} == before


def test_a_name_that_no_disk_takes_is_the_users_slip(service: Service) -> None:
    sent = service.client.post(f"{API}/uploads", params={"name": "ä" * 140 + ".csv"}, content=b"a,b\n1,2\n")
    assert "a file cannot be named" in detail(sent, 400)


def test_the_document_describes_every_operation_parameter_and_field(service: Service) -> None:
    told = service.client.get(f"{API}/openapi.json").json()
    operations = {f"{verb} {path}": one for path, them in told["paths"].items() for verb, one in them.items()}
    parts = operations | {
        f"{where} {each['name']}": each for where, one in operations.items() for each in one.get("parameters", ())
    }
    for name, schema in told["components"]["schemas"].items():
        parts |= {f"{name}.{field}": each for field, each in schema.get("properties", {}).items()}
    assert len(parts) > 100
    assert [where for where, each in parts.items() if not each.get("description")] == []
