"""What must stay true of the documentation: its commands exist, its Python is right, its links lead somewhere, and its
figures name the command that made them. What its stories do is run by `make stories`, block after block.
"""

import importlib.util
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from autopeft.cli import main
from autopeft.plan import Plan
from tests.stories import DOCS, NOT_RUN, ROOT, SHARED, Block, Teller, blocks, pages, stories, story_of, text_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = re.compile(r'^!!! measured "([^"]+)"$', re.M)
_SCRIPT = re.compile(r"python (?:-m )?benchmarks[./](\w+)")
_FENCED = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
_INLINE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
_UNITS = "%|\N{MULTIPLICATION SIGN}|GiB|MiB|KiB|ms|s\\b|seconds|points"
_FIGURE = re.compile(rf"(?<![\w.,-])\d[\d,.]*\s?(?:{_UNITS})|(?<![\w.])0\.\d{{2,}}(?!\w|\.\d)")
_PLACES = {"MODEL": "model", "DATA": "data", "SIZE": "8GiB", "COUNT": "500k", "NAME": "reviews", "FOLDER": "folder"}
"""What stands for something that its reader has."""


def made() -> ModuleType:
    """The hook that makes pages of the reference."""
    spec = importlib.util.spec_from_file_location("made", DOCS / "made.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(block: Block) -> Iterator[list[str]]:
    """Words of every call of autopeft in a console, without redirections and what it is piped to."""
    for command, _ in block.commands():
        plain = re.sub(r"\d?>&?\S+", "", command.replace("\\\n", " "))
        lexer = shlex.shlex(plain, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in (*lexer, "|"):
            if not set(word) <= set("|&;"):
                words.append(word)
                continue
            while words and "=" in words[0]:
                words.pop(0)
            if words[:1] == ["autopeft"]:
                yield words[1:]
            words = []


def calls(page: str) -> list[list[str]]:
    return [words for block in blocks(page) if block.language == "console" for words in commands(block)]


def fits(words: list[str]) -> None:
    """Raises UsageError where the program has no such command, option or kind of value; runs nothing."""
    name, *rest = words
    assert name in main.commands, f"autopeft {name}"
    command = main.commands[name]
    command.make_context(f"autopeft {name}", [_PLACES.get(word, word) for word in rest], resilient_parsing=False)


@pytest.mark.parametrize("page", pages())
def test_every_command_of_the_documentation_exists_with_its_options(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Folders that a service reads are asked for where they are named; here nobody has them.
    monkeypatch.setattr(click.Path, "convert", lambda _, value, *__: value)
    for words in calls(page):
        try:
            fits(words)
        except click.ClickException as error:
            pytest.fail(f"{page}: autopeft {' '.join(words)}: {error.format_message()}")


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(click.UsageError):
        fits(["search", "--modle", "minilm"])
    with pytest.raises(click.UsageError):
        fits(["resume", "reviews", "--trials", "many"])


@pytest.mark.parametrize("command", main.commands)
def test_every_command_is_used_by_a_guide_or_explained(command: str) -> None:
    told = {words[0] for page in pages() for words in calls(page)}
    assert command in told or f"## {command}\n" in made().command_line()


def test_what_was_not_run_shows_no_output() -> None:
    invented = [
        f"{block.page}:{block.line}"
        for page in pages()
        for block in blocks(page)
        if block.title == NOT_RUN and block.language == "console" and any(out.strip() for _, out in block.commands())
    ]
    assert not invented


def test_what_was_run_shows_what_was_printed() -> None:
    silent = [
        f"{block.page}:{block.line}"
        for page in pages()
        for block in blocks(page)
        if block.is_run and block.language == "console" and not any(out.strip() for _, out in block.commands())
    ]
    assert not silent


@pytest.mark.parametrize("page", pages())
def test_python_of_the_documentation_compiles(page: str) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page}:{block.line}", "exec")


@pytest.mark.long
def test_python_of_the_documentation_has_right_types(tmp_path: Path) -> None:
    for page in pages():
        for block in blocks(page):
            if block.language == "python":
                name = Path(block.title).stem if block.is_file else f"{Path(page).stem}_{block.line}".replace("-", "_")
                (tmp_path / f"{name}.py").write_text(block.text, encoding="utf-8")
    files = map(str, sorted(tmp_path.glob("*.py")))
    options = ("--config-file=", "--ignore-missing-imports", "--no-error-summary")
    asked = [sys.executable, "-m", "mypy", *options, *files]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", pages())
def test_plans_of_the_documentation_are_read(page: str, tmp_path: Path) -> None:
    for block in blocks(page):
        if Path(block.title).name == "plan.yaml":
            (tmp_path / "plan.yaml").write_text(block.text, encoding="utf-8")
            Plan.from_yaml(tmp_path / "plan.yaml")


def anchors(text: str) -> set[str]:
    """Of a page's headings, as Python-Markdown makes them."""
    bare = (re.sub(r"[^\w\s-]", "", re.sub(r"[`*_]", "", each)).strip().lower() for each in made().headings(text))
    return {re.sub(r"[\s-]+", "-", each) for each in bare}


def links(text: str) -> Iterator[tuple[str, str]]:
    """Place and anchor of each link inside the project."""
    for place, anchor in _LINK.findall(_INLINE.sub("", _FENCED.sub("", text))):
        yield place, anchor.removeprefix("#")


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_pages_and_headings_that_are_there(page: str) -> None:
    generated = made().PAGES
    broken = []
    for place, anchor in links(text_of(page)):
        target = (DOCS / page).parent / place if place else DOCS / page
        path = target.resolve().relative_to(DOCS.resolve()).as_posix()
        if path in generated:
            continue
        if not target.is_file() or (anchor and anchor not in anchors(text_of(path))):
            broken.append(f"{place}#{anchor}")
    assert not broken


def test_links_of_readme_lead_to_files_that_are_there() -> None:
    generated = {f"docs/{path}" for path in made().PAGES}
    broken = [place for place, _ in links(README) if place not in generated and not (ROOT / place).exists()]
    assert not broken


def test_every_page_is_in_the_menu() -> None:
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} == set(pages())


def prose(text: str) -> str:
    """A page without code, and without what is measured: blocks that name their command."""
    kept, inside = [], False
    for line in _INLINE.sub("", _FENCED.sub("", text)).splitlines():
        if MEASURED.match(line):
            inside = True
        elif line.strip() and not line.startswith("    "):
            inside = False
        if not inside:
            kept.append(line)
    return "\n".join(kept)


@pytest.mark.parametrize("page", [*(page for page in pages() if page.startswith("how-it-works/")), "comparison.md"])
def test_a_figure_stands_in_a_box_that_names_the_command_which_made_it(page: str) -> None:
    assert _FIGURE.findall(prose(text_of(page))) == []


def test_a_figure_without_its_command_is_found() -> None:
    assert _FIGURE.findall(prose("A step is 1.5 s long, and 0.815 is the score.")) == ["1.5 s", "0.815"]
    assert _FIGURE.findall(prose('!!! measured "python benchmarks/seconds.py"\n    Off by 12 %.\n\nThe end.')) == []


@pytest.mark.parametrize("command", sorted({each for page in pages() for each in MEASURED.findall(text_of(page))}))
def test_a_command_that_made_figures_is_there(command: str) -> None:
    script = _SCRIPT.match(command)
    assert script is not None
    name = script[1]
    assert name == "NAME" or (ROOT / "benchmarks" / f"{name}.py").is_file()


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith("guides/")])
def test_a_figure_that_a_guide_tells_was_printed_in_its_story(page: str) -> None:
    them = [each for each in pages() if story_of(each) == story_of(page)]
    printed = "\n".join(block.text for each in them for block in blocks(each))
    told = re.findall(r"(?<![\w.])0\.\d{2,}(?!\w)|\d[\d.]* (?:MiB|ms)\b", prose(text_of(page)))
    assert [each for each in told if each not in printed] == []


def test_the_comparison_counts_the_methods_that_there_are() -> None:
    cards = len([*(ROOT / "search_spaces" / "methods").glob("*.yaml")])
    assert f"{cards} PEFT methods" in text_of("comparison.md")


def test_pages_that_are_made_tell_every_public_thing() -> None:
    hook = made()
    told = hook.plan()
    for option in ("--memory", "--trials", "--workers", "--seconds-per-trial"):
        assert f"`{option}`" in told
    assert "## text-generation" in hook.tasks()
    assert "## /api" not in hook.rest()
    assert "POST /api/v1/searches" in hook.rest()


def test_python_of_the_reference_tells_every_public_name() -> None:
    import autopeft

    told = made().python()
    assert [name for name in autopeft.__all__ if f"heading: autopeft.{name}\n" not in told] == []


@pytest.mark.long
@pytest.mark.parametrize("story", stories())
@pytest.mark.skipif(not SHARED.is_dir(), reason="the guides' data lie beside a checkout of the developers")
def test_what_the_documentation_tells_happens(story: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        teller = Teller(Path(place), part=0.4)
        for page in stories()[story]:
            for block in blocks(page):
                teller.tell(block)


@pytest.mark.long
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="`make docs` installs it")
    asked = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fetched = re.compile(r"""src=["']?https?://|href=["']?https?://[^"'> ]+\.(?:js|css|woff2?)""")
    assert [path.name for path in tmp_path.rglob("*.html") if fetched.search(path.read_text(encoding="utf-8"))] == []
