"""Commands and Python of the documentation, read from its pages and run as a reader would.

A block of ```console that is not titled `not run here` holds commands after `$ ` and what they printed; it is run. A
block of ```python is run likewise. A block of any language whose title is a file's name is that file, written before
what follows it. Pages that name the same `story` in their front matter share a folder, in the order of the site.

    python -m tests.stories guides/reviews.md …

runs pages, with those of their stories before them, and writes what was printed into them.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SHARED = ROOT.parent / "shared"
NOT_RUN = "not run here"
HOME = "/home/you/work"
"""What stands in the pages for the folder in which commands were run; their environment lies in it."""
_PROGRAM = "from autopeft.cli import main; main(prog_name='autopeft')"
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^ *```$", re.M | re.S
)
_STORY = re.compile(r"\A---\n.*?^story: (\w+)$.*?^---\n", re.M | re.S)
_EXPORT = re.compile(r"(?<=autopeft export )(\S+) (\d+)")
_SELECTED = re.compile(r"^Trial (\d+) of (\S+): the", re.M)


@dataclass(frozen=True)
class Block:
    """What stands between fences."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.language in ("console", "python") and self.title != NOT_RUN

    @property
    def is_file(self) -> bool:
        return Path(self.title).suffix != ""

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command of a console, with what it printed."""
        for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command is not None, part
            yield command[0].rstrip("\n"), part[command.end() :]


def pages() -> list[str]:
    """Paths of all pages that are written by hand, as the site's menu has them."""

    class Loader(yaml.SafeLoader):
        """mkdocs.yml may name Python objects, which are not looked at."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)

    def within(entry: object) -> Iterator[str]:
        for each in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
            yield from [each] if isinstance(each, str) else within(each)

    menu = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]
    return [page for page in within(menu) if (DOCS / page).is_file()]


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Of a page as it is, or as its text was read before."""
    text = text_of(page) if text is None else text
    found = []
    for match in _BLOCK.finditer(text):
        inner = "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], match["title"] or "", inner))
    return found


def story_of(page: str) -> str:
    """The story that a page belongs to; its own where it names none."""
    told = _STORY.match(text_of(page))
    return told[1] if told else page


def stories() -> dict[str, list[str]]:
    """Pages of each story that has something to run, in the order of the site."""
    told: dict[str, list[str]] = {}
    for page in pages():
        told.setdefault(story_of(page), []).append(page)
    return {story: them for story, them in told.items() if any(each.is_run for page in them for each in blocks(page))}


def lay_out(place: Path, part: float) -> None:
    """What the guides find in their folder: models, and parts of real data sets; of their rows again a part."""
    from autopeft.data.demo import demo_model

    (place / "minilm").symlink_to(demo_model())
    (place / "dinov2-small").symlink_to(SHARED / "models" / "dinov2-small")
    for folder in (SHARED / "data" / "cifar10").glob("*/*"):
        images = place / "photographs" / folder.parent.name / folder.name
        images.mkdir(parents=True)
        files = sorted(folder.iterdir())
        for file in files[: round(part * len(files))]:
            (images / file.name).symlink_to(file)
    rows = {"train": 1600, "validation": 400, "test": 400}
    for name, data, ending in (
        ("reviews", "sst2", "csv"),
        ("messages", "wnut17", "jsonl"),
        ("pairs", "sick-similarity", "csv"),
    ):
        (place / name).mkdir()
        for split, most in rows.items():
            file, count = f"{split}.{ending}", round(part * most)
            with (SHARED / "data" / data / file).open(encoding="utf-8") as lines:
                (place / name / file).write_text("".join(islice(lines, count + (ending == "csv"))), encoding="utf-8")


class Teller:
    """Runs blocks in a folder."""

    def __init__(self, place: Path, part: float = 1.0) -> None:
        """`part` of the guides' rows, where less will do."""
        self.place = place
        lay_out(place, part)
        told = {"COLUMNS": "110", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.environment = {**os.environ, **told}
        program = place / "bin" / "autopeft"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(_PROGRAM)} "$@"\n', encoding="utf-8"
        )
        program.chmod(0o755)
        self.environment["PATH"] = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.selected: dict[str, str] = {}

    def tell(self, block: Block) -> str:
        """The block with what is printed now. Raises AssertionError where a command fails."""
        if block.is_file:
            file = self.place / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        if not block.is_run:
            return block.text
        if block.language == "python":
            self._run(block, [sys.executable, "-c", block.text])
            return block.text
        lines = []
        for command, _ in block.commands():
            # Which trial is chosen depends on how fast the machine is.
            here = _EXPORT.sub(lambda match: f"{match[1]} {self.selected.get(match[1], match[2])}", command)
            printed = self._run(block, ["bash", "-o", "pipefail", "-c", here])
            self.selected.update({name: number for number, name in _SELECTED.findall(printed)})
            for there, told in ((str(self.place), HOME), (sys.prefix, f"{HOME}/.venv")):
                printed = printed.replace(there, told)
            lines.append(f"$ {here}\n{printed}")
        return "".join(lines)

    def _run(self, block: Block, command: Sequence[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        where = f"{block.page}:{block.line}"
        assert done.returncode == 0, f"{where}: {command[-1]}\n{done.stdout}\n{done.stderr}"
        return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + ("\n" if done.stdout else "")


def written_again(page: str, teller: Teller) -> str:
    """The page with what its commands print now."""
    text = text_of(page)
    told = {each.line: teller.tell(each) for each in blocks(page, text)}

    def again(match: re.Match[str]) -> str:
        inner = told[text.count("\n", 0, match.start()) + 1]
        start, end = match.start("text") - match.start(), match.end("text") - match.start()
        indented = "".join(f"{match['indent']}{line}" for line in inner.splitlines(keepends=True))
        return match[0][:start] + indented + match[0][end:]

    return _BLOCK.sub(again, text)


def main(asked: Sequence[str]) -> None:
    for story, them in stories().items():
        if not any(page in asked for page in them):
            continue
        with tempfile.TemporaryDirectory(prefix="story-") as place:
            teller = Teller(Path(place))
            for page in them:
                print(f"{story}: {page}", flush=True)
                (DOCS / page).write_text(written_again(page, teller), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
