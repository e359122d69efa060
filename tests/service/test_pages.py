"""Pages for people: whoever is signed in sees searches and begins them; texts of others stay texts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autopeft.service import pages
from autopeft.service.security import COOKIE
from autopeft.shipped import shipped
from autopeft.storage.holding import Holding
from autopeft.storage.queue import ENDED
from autopeft.storage.repository import Repository
from autopeft.storage.tokens import READ, RUN
from autopeft.trial import Baseline
from tests.reports.records import record
from tests.service.conftest import Service

HOSTILE = "<img src=x onerror=alert(1)>"


def sign_in(service: Service, role: str = RUN) -> None:
    service.client.headers.pop("authorization", None)
    token = next(each for each in service.office.tokens.all() if each.role == role)
    service.client.cookies.set(COOKIE, service.client.app.state.sessions.cookie(token))  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/", "/searches", "/new", "/searches/a", "/searches/a/parts"])
def test_strangers_are_sent_to_where_one_signs_in(service: Service, path: str) -> None:
    service.client.headers.pop("authorization")
    answer = service.client.get(path)
    assert str(answer.url).endswith("/sign-in")
    assert '<form data-path="/session"' in answer.text


def test_searches_are_listed_and_one_is_begun_from_what_there_is(service: Service) -> None:
    sign_in(service)
    assert "There are none yet." in service.client.get("/searches").text
    page = service.client.get("/new").text
    assert str(service.place / "roots" / "model") in page
    assert "text-classification" in page
    service.office.queue.add("waits", record().plan, "somebody")
    assert "waiting, place 1" in service.client.get("/searches").text
    page = service.client.get("/searches/waits").text
    assert 'data-path="/searches/waits/stop"' in page


def test_a_search_may_be_begun_with_what_the_operator_trusts(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(service)
    assert "data-own" not in service.client.get("/new").text
    (tmp_path / "mine.py").write_text("class Stars: ...\ndef share(truths, answers): ...\n")
    (tmp_path / "cards" / "methods").mkdir(parents=True)
    shutil.copy(shipped("search_spaces") / "methods" / "bitfit.yaml", tmp_path / "cards" / "methods" / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    trusting = replace(service.settings, trusted=("mine.py:Stars", "mine.py:share", "cards"))
    monkeypatch.setattr(service.office, "settings", trusting)
    monkeypatch.delitem(vars(service.office), "spaces")
    page = service.client.get("/new").text
    offered = re.findall(r'<select name="(plan.\w+)">(.*?)</select>', page)
    options = {name: re.findall("<option>(.*?)</option>", each) for name, each in offered}
    assert 'value="mine.py:share" data-own' in page
    assert {"mine.py:Stars", "text-classification"} < {*options["plan.task"]}
    assert {"cards", "quick"} < {*options["plan.space"]}


def test_a_search_shows_its_front_as_a_plot_and_as_a_table_and_others_texts_as_texts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = replace(record(), baselines={HOSTILE: Baseline(0.5, 0.1)}, plan=replace(record().plan, model=HOSTILE))
    with Repository(service.settings.storage) as repository:
        repository.create(hostile)
    sign_in(service, READ)
    for path in (f"/searches/{hostile.name}", f"/searches/{hostile.name}/parts", "/searches"):
        page = service.client.get(path).text
        assert HOSTILE not in page
        assert "onclick" not in page
        assert "style=" not in page
    assert "winner.zip" not in service.client.get(f"/searches/{hostile.name}").text  # Nobody has their weights.
    monkeypatch.setattr(pages, "has_weights", lambda _: True)
    page = service.client.get(f"/searches/{hostile.name}").text
    assert page.count('class="member"') == page.count("winner.zip?form=onnx") > 1
    assert "/stop" not in page  # Who may read is offered nothing else.
    assert service.client.get("/searches/nothing").status_code == 404


def test_pages_bring_their_own_style_and_module_and_nothing_inline(service: Service) -> None:
    style = service.client.get("/static/style.css")
    assert "--accent" in style.text
    assert style.headers["content-type"].startswith("text/css")
    assert "EventSource" in service.client.get("/static/module.js").text
    assert service.client.get("/static/..%2fapp.py").status_code == 404
    page = service.client.get("/sign-in").text
    assert page.count("<script") == page.count('<script type="module" src="/static/module.js">') == 1
    assert "<style" not in page
    assert "http" not in page


def test_the_list_tells_what_time_a_search_that_runs_may_take_yet(service: Service) -> None:
    for name in ("runs", "waits"):
        service.office.queue.add(name, record().plan, "somebody")
    holding = Holding(service.office.opened)
    held = holding.take("here", 1)
    assert held is not None
    sign_in(service, READ)
    assert "left" not in service.client.get("/searches").text
    holding.tell(held, "trial-ended", {"standing": {"left": 590.0}})
    found = {each["name"]: each["left"] for each in service.client.get("/api/v1/searches").json()["searches"]}
    assert found["waits"] is None
    assert 580 < found["runs"] <= 590
    assert "running, about 10 min left" in service.client.get("/searches").text
    holding.finish(held, ENDED)
    assert "left" not in service.client.get("/searches").text
