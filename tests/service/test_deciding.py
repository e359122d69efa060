"""Pages that help to decide: what fits, which trial under limits, which of several searches, and a try."""

from dataclasses import replace
from typing import Any

import pytest

from autopeft.plan import Plan
from autopeft.storage.repository import Repository
from autopeft.storage.tokens import READ
from autopeft.trial import Baseline, SearchRecord
from tests.reports.records import record
from tests.service.conftest import Service
from tests.service.test_api import detail, remembered
from tests.service.test_pages import HOSTILE, sign_in


def another(service: Service, name: str, **changed: object) -> SearchRecord:
    """A search beside the one that is remembered."""
    made = replace(record(), name=name, **changed)  # type: ignore[arg-type]
    with Repository(service.settings.storage) as repository:
        repository.create(made)
    return made


def test_the_best_trial_under_limits_stands_between_its_neighbours_and_can_be_taken_away(service: Service) -> None:
    name = remembered(service)
    sign_in(service)
    page = service.client.get(f"/searches/{name}/choose").text
    assert "<strong>Trial 4</strong>" in page
    assert f'href="/api/v1/searches/{name}/trials/4/winner.zip" download' in page
    assert 'data-stops="350 MiB|' in page
    limited = service.client.get(f"/searches/{name}/chosen", params={"memory": "450MiB", "score": "0.8"}).text
    assert "<strong>Trial 1</strong>" in limited
    cells = [row.split("</tr>")[0] for row in limited.split("<tr")[2:]]
    assert [word in cell for cell, word in zip(cells, ("next better", "chosen", "next cheaper"), strict=False)] == [
        *(True, True, True)
    ]
    assert "linear probe" in limited
    assert "±" in limited
    assert "<html" not in limited


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"memory": "1MiB"}, "no trial keeps memory at most 1.00 MiB"),
        ({"memory": HOSTILE}, "&#39;&lt;img src=x onerror=alert(1)&gt;&#39; is not a size"),
    ],
)
def test_limits_that_nothing_keeps_are_answered_as_on_the_command_line(
    service: Service, limits: dict[str, str], said: str
) -> None:
    name = remembered(service)
    sign_in(service)
    for path in ("choose", "chosen"):
        page = service.client.get(f"/searches/{name}/{path}", params=limits)
        assert page.status_code == 200
        assert said in page.text
        assert HOSTILE not in page.text


def test_searches_on_the_same_data_are_compared_and_others_are_not(service: Service) -> None:
    one = another(service, "one")
    another(service, "two", plan=replace(one.plan, model="larger"))
    another(service, "three", plan=replace(one.plan, data="other.csv"))
    sign_in(service)
    assert service.client.get("/searches").text.count('name="of"') == 3
    page = service.client.get("/compare", params={"of": ["one", "two"]}).text
    assert "A and B cannot be told apart" in page
    assert page.count('class="search') == 2
    assert "larger" in page
    assert "cannot be compared" in service.client.get("/compare", params={"of": ["one", "three"]}).text
    assert "two to 5 different searches" in service.client.get("/compare", params={"of": ["one"]}).text
    assert service.client.get("/compare", params={"of": ["one", "none"]}).status_code == 200


def test_a_front_is_seen_at_a_glance_in_the_list(service: Service) -> None:
    name = remembered(service)
    sign_in(service)
    assert f'src="/searches/{name}/glance.svg"' in service.client.get("/searches").text
    picture = service.client.get(f"/searches/{name}/glance.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.text.count("<circle") == 4


def test_what_fits_follows_the_limits_of_the_form(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"trainable": 10_000, "memory": 2**30, "stored": 4, "flops": 1}
    methods = [
        {"name": "small", "costs": costs, "refused": ""},
        {"name": "large", "costs": {**costs, "memory": 2**33}, "refused": ""},
        {"name": "odd", "costs": None, "refused": "no layers"},
    ]
    asked: list[Any] = []

    def run(_: float, __: object, **given: object) -> object:
        asked.append(given)
        return {"methods": methods} if "asked" in given else {"parameters": 2_000_000, "positions": 64}

    monkeypatch.setattr(service.office.apart, "run", run)
    sign_in(service)
    fits = {"plan.model": "model", "plan.budget.memory": "4GiB", "plan.budget.trainable": "1%"}
    page = service.client.get("/new/fits", params=fits).text
    assert "1 of 3 methods" in page
    assert "too much memory" in page
    assert "does not go on it: no layers" in page
    assert "texts of 64 tokens" in page
    assert "0 of 3 methods" in service.client.get("/new/fits", params={**fits, "plan.budget.memory": "1MiB"}).text
    assert len(asked) == 2  # What was estimated once is not estimated again.
    service.client.get("/new/fits", params={**fits, "plan.space": "quick"})
    assert [each["asked"]["space"] for each in asked if "asked" in each] == ["default", "quick"]
    longer = service.client.get("/new/fits", params={**fits, "tokens": "24"}).text
    assert "in steps of 8 texts of 24 tokens" in longer
    assert asked[-1]["asked"]["length"] == 24
    for odd in ("0", "-1", "many"):
        assert "whole number" in service.client.get("/new/fits", params={**fits, "tokens": odd}).text
    assert "not a size" in service.client.get("/new/fits", params={**fits, "plan.budget.memory": "much"}).text
    assert "in the folders" in service.client.get("/new/fits", params={"plan.model": "/etc"}).text


def test_what_fits_is_worked_out_of_a_model_that_is_named_for_who_may_run(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        service.office, "settings", replace(service.settings, model_roots=(service.place / "roots" / "model",))
    )
    monkeypatch.setattr(service.office.apart, "run", lambda *_, **__: pytest.fail("nothing is to be worked out"))
    sign_in(service)
    for nameless in ({}, {"plan.model": ""}):
        assert "plan.model" in detail(service.client.get("/new/fits", params=nameless), 422)
    sign_in(service, READ)
    assert "may read, not run" in detail(service.client.get("/new/fits", params={"plan.model": "model"}), 403)
    service.client.cookies.clear()
    assert str(service.client.get("/new/fits", params={"plan.model": "model"}).url).endswith("/sign-in")


def test_a_page_asks_a_trained_model_and_texts_of_others_stay_texts(service: Service) -> None:
    whole = another(service, "whole", baselines={HOSTILE: Baseline(0.5, 0.1)})
    another(service, "pairs", plan=Plan("mini", "pairs.csv", text=("a", "b")))
    sign_in(service)
    page = service.client.get(f"/searches/{whole.name}/trials/1/try").text
    assert 'data-path="/searches/whole/trials/1/answer"' in page
    assert 'name="second"' not in page
    assert 'name="second"' in service.client.get("/searches/pairs/trials/1/try").text
    assert service.client.get("/searches/whole/trials/99/try").status_code == 404
    for path in ("/searches/whole/choose", "/compare?of=whole&of=pairs"):
        assert HOSTILE not in service.client.get(path).text
