"""A real browser does the whole way, from the sign-in to a winner that loads in Python; a second one sees the same.

Needs playwright and a Chromium (`AUTOPEFT_CHROMIUM`, else Debian's); with axe-core at `AUTOPEFT_AXE`, pages are looked
at for those who do not see or point. `AUTOPEFT_SCREENSHOTS` names a folder for pictures: wide, of 400 px, and dark.
"""

import csv
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autopeft
from tests.service.test_whole import Running, serving
from tests.user import user_folder

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path(os.environ.get("AUTOPEFT_CHROMIUM", "/usr/bin/chromium"))
AXE = os.environ.get("AUTOPEFT_AXE")
SCREENSHOTS = os.environ.get("AUTOPEFT_SCREENSHOTS")
PATIENCE = 240_000
"""Milliseconds."""
pytestmark = [pytest.mark.long, pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, whose file has a column that is easily taken for the one to predict."""
    folder = user_folder(tmp_path_factory.mktemp("browser"))
    with (folder / "reviews.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "mine.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["review", "opinion", "label"])
        writer.writerows([row["review"], row["opinion"], f"shelf {number % 3}"] for number, row in enumerate(rows))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        yield started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])


def signed_in(browser: Any, service: Running, wrong: list[str]) -> Any:
    """A page of a browser of its own; whatever goes wrong in it is kept."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(service.address)
    look(page, "sign-in")
    page.get_by_label("Token").fill(service.token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Searches").wait_for()
    return page


def look(page: Any, name: str) -> None:
    """No serious fault for those who do not see or point, nothing wider than a telephone; pictures, where wanted."""
    if AXE:
        page.evaluate(Path(AXE).read_text(encoding="utf-8"))
        found = page.evaluate("axe.run()")["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], each["nodes"][0]["html"]) for each in serious]
    wide = page.viewport_size
    for size, scheme in ((wide, "light"), ({"width": 400, "height": 800}, "light"), (wide, "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"
        if SCREENSHOTS:
            file = Path(SCREENSHOTS) / f"{name}-{size['width']}-{scheme}.png"
            page.screenshot(path=str(file), full_page=True)
    page.set_viewport_size(wide)
    page.emulate_media(color_scheme="light")


def test_from_the_sign_in_to_a_winner_in_python_and_a_second_browser_sees_the_same(
    place: Path, browser: Any, tmp_path: Path
) -> None:
    wrong: list[str] = []
    with serving(place) as service:
        page = signed_in(browser, service, wrong)
        page.get_by_role("link", name="New search").click()
        page.get_by_label("Upload a file").set_input_files(place / "mine.csv")
        page.get_by_text("label: ").or_(page.get_by_text("-> label")).first.wait_for()
        page.get_by_label("Column to predict").fill("opinion")
        page.get_by_role("button", name="Look at the data").click()
        page.get_by_text("review -> opinion").wait_for()
        page.get_by_label("Model").select_option(index=0)
        page.get_by_label("At most, memory").fill("1GiB")
        page.get_by_text(re.compile(r"^[1-9]\d* of \d+ methods")).wait_for()
        page.get_by_label("Trials").fill("5")
        page.get_by_label("Name").fill("whole")
        look(page, "new")
        page.get_by_role("button", name="Begin").click()
        page.get_by_role("heading", name="whole").wait_for()
        page.locator("svg.front circle.member").first.wait_for()
        other = signed_in(browser, service, wrong)
        other.get_by_role("link", name="whole").click()
        other.locator("svg.front circle.member").first.wait_for()

        page.get_by_role("button", name="Stop").click()
        for each in (page, other):
            each.locator("#state", has_text="stopped").wait_for()
        page.get_by_role("button", name="Go on").click()
        for each in (page, other):
            each.locator("#state", has_text="ended").wait_for()
        for each in (page, other):
            each.get_by_text("5 trials begun.").wait_for()
        assert page.locator("#live").inner_html() == other.locator("#live").inner_html()
        look(page, "live")

        page.get_by_role("link", name="Choose under limits").click()
        page.locator(".answer").wait_for()
        slider = page.get_by_label("trainable at most").or_(page.get_by_label("trainable, as trials need it")).last
        slider.focus()
        page.keyboard.press("Home")
        page.wait_for_function("document.querySelector('[name=trainable]').value !== ''")
        page.get_by_label("peak memory at most").first.fill("100KiB")
        page.get_by_text("no trial keeps").wait_for()
        page.get_by_label("peak memory at most").first.fill("2GiB")
        page.locator(".answer").wait_for()
        look(page, "choose")
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Download the winner").click()
        winner = tmp_path / "winner.zip"
        downloading.value.save_as(winner)
        with zipfile.ZipFile(winner) as packed:
            packed.extractall(tmp_path)
        (folder,) = (each for each in tmp_path.iterdir() if each.is_dir())
        assert autopeft.load(folder).predict("the film was good") in ("positive", "negative")

        page.get_by_role("link", name="Try it").click()
        page.get_by_label("Text").fill("the film was good")
        page.get_by_role("button", name="Ask").click()
        page.locator("#told-answer", has_text="tive").wait_for()
        assert page.locator("#told-of").inner_text() == "majority class"
        assert page.locator("#told-baseline").inner_text() in ("positive", "negative")
        look(page, "try")

        plan = service.json("GET", "/searches/whole/report.json")["plan"]
        service.json("POST", "/searches", {"plan": {**plan, "seed": 1, "trials": 2}, "name": "second"})
        service.until("second", "ended")
        page.get_by_role("link", name="Searches").click()
        for name in ("whole", "second"):
            page.get_by_label(f"Compare {name}").check()
        look(page, "searches")
        page.get_by_role("button", name="Compare those").click()
        page.get_by_text("search took").wait_for()
        assert page.locator("svg.front g").count() == 2
        look(page, "compare")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
    assert not wrong
