import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopeft.tasks.tags import Entity, entities, located, mark_entities, scheme

WNUT = Path("../shared/data/wnut17/train.jsonl")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("", []),
        ("O O", []),
        # IOB2
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("B-PER B-PER I-PER", [("PER", 0, 0), ("PER", 1, 2)]),
        # IOB1: B only where two entities of a type touch
        ("I-PER I-PER O I-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("I-PER B-PER I-LOC", [("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 2)]),
        # a type that changes ends an entity
        ("B-PER I-LOC I-LOC", [("PER", 0, 0), ("LOC", 1, 2)]),
        # IOBES, and the same as BILOU, BMES, BMEWO
        ("B-PER I-PER E-PER S-LOC S-LOC O", [("PER", 0, 2), ("LOC", 3, 3), ("LOC", 4, 4)]),
        ("B-PER I-PER L-PER U-LOC U-LOC O", [("PER", 0, 2), ("LOC", 3, 3), ("LOC", 4, 4)]),
        ("B-PER M-PER E-PER W-LOC W-LOC O", [("PER", 0, 2), ("LOC", 3, 3), ("LOC", 4, 4)]),
        # broken rows, as a model may answer
        ("E-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("O E-PER E-PER", [("PER", 1, 1), ("PER", 2, 2)]),
        ("B-PER S-PER I-PER", [("PER", 0, 0), ("PER", 1, 1), ("PER", 2, 2)]),
        # types with hyphens, and none
        ("B-creative-work I-creative-work I-work", [("creative-work", 0, 1), ("work", 2, 2)]),
        ("B I O B", [("_", 0, 1), ("_", 3, 3)]),
        # types without a letter
        ("person person O place person", [("person", 0, 1), ("place", 3, 3), ("person", 4, 4)]),
    ],
)
def test_entities_of_tags(tags, found):
    assert entities(tags.split()) == found


NAMES = st.sampled_from(["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("PER", "LOC", "a-b")), "B", "I"])


@given(st.lists(NAMES, max_size=12))
def test_entities_are_those_of_seqeval(tags):
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert entities(tags) == seqeval.get_entities(tags)


@given(st.lists(NAMES, max_size=12))
def test_each_word_inside_belongs_to_one_entity(tags):
    words = [at for _, first, last in entities(tags) for at in range(first, last + 1)]
    assert words == [at for at, tag in enumerate(tags) if tag != "O"]


def test_entities_lie_where_their_words_lie():
    offsets = [(0, 3), (4, 9), (9, 10)]
    assert located(["O", "B-LOC", "I-LOC"], offsets) == [Entity("LOC", first=1, last=2, start=4, end=10)]


@pytest.mark.parametrize(
    ("names", "whether"),
    [
        ({"O", "B-PER", "I-PER"}, True),
        ({"I-PER", "U-LOC"}, True),
        ({"O"}, False),
        ({"NOUN", "VERB"}, False),
        ({"O", "person"}, False),
        ({"B", "I", "O"}, False),
        ({"B-PER", "E-", "O"}, False),
    ],
)
def test_tags_of_entities_are_known_by_their_names(names, whether):
    assert mark_entities(names) is whether


def test_real_entities_are_as_many_as_begin():
    if not WNUT.exists():
        pytest.skip("no ../shared/data/wnut17 here")
    rows = [json.loads(line)["tags"] for line in WNUT.read_text(encoding="utf-8").splitlines()]
    assert sum(len(entities(tags)) for tags in rows) == sum(tag[0] == "B" for tags in rows for tag in tags) == 1975


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["B-PER I-PER O", "B-LOC"], "IOB2"),
        (["B-PER B-PER O"], "IOB2"),
        (["I-PER I-PER O", "I-LOC B-LOC"], "IOB1"),
        (["B-PER I-PER O I-LOC"], "IOB2, but 1 of 2 entities begin with I"),
        (["B-PER E-PER O S-LOC"], "IOBES, or the same in other letters"),
        (["B-PER L-PER O U-LOC"], "IOBES, or the same in other letters"),
        (["person person O"], "types of entities; words in a row that have the same are one entity"),
        (["DET NOUN VERB"], "a class for each word, judged by the share of right ones"),
        (["0 3 4"], "numbers without names: a class for each word, judged by the share of right ones"),
    ],
)
def test_how_tags_mark_entities_is_told(rows, said):
    assert scheme([row.split() for row in rows]) == said
