"""What goes wrong with language models is told in one sentence before anything is trained or remembered."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers as t

import autopeft
from autopeft.errors import AutopeftError
from tests.tasks.examples import model_of_texts, model_that_goes_on
from tests.tasks.test_text_generation import CHATML

ASKED = {"role": "user", "content": "film w1"}
SAID = {"role": "system", "content": "bad"}
TALK = [ASKED, {"role": "assistant", "content": "good"}]
LONG = "film " * 60
TEMPLATE = CHATML.replace("<|im_end|>", "[SEP]")
DEAF = TEMPLATE.replace("for m in messages", "for m in messages if m['role'] != 'system'")
STRICT = "{{ raise_exception('roles must alternate') }}"
ROWS: Mapping[str, tuple[Any, str]] = {
    "without an assistant": ({"messages": [ASKED]}, "row 3 of the train split: no turn of the conversation is the ass"),
    "of an unknown role": ({"messages": [{**ASKED, "role": "narrator"}, TALK[1]]}, "turn 1 .* is said by 'narrator'"),
    "that are a text": ({"messages": "film w1"}, "row 3 of the train split: a conversation is a list of turns such"),
    "without turns": ({"messages": []}, "row 3 of the train split: a conversation without turns"),
    "with an empty answer": ({"messages": [ASKED, {**TALK[1], "content": " "}]}, "turn 2 .*, is empty: there is no"),
}
"""What follows two good rows, and what is said of it."""
PAIRS: Mapping[str, tuple[str, Any, str]] = {
    "an empty completion": ("film", "", "row 3 of the train split: its completion is empty; fill it in or leave"),
    "a missing completion": ("film", None, "row 3 of the train split: its completion is empty"),
    "a number for a completion": ("film", 7, "row 3 of the train split: its completion is no text, but 7"),
    "an empty prompt": (" ", "good", "row 3 of the train split: its prompt is empty"),
}


def refused(folder: Path, rows: Sequence[Any], **more: Any) -> str:
    """What a search says, which is one sentence; nothing of the search is left then."""
    data = folder / "data"
    data.mkdir()
    for split in ("train", "validation"):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = {"storage": f"sqlite:///{folder / 'searches.db'}", "folder": str(folder / "runs")}
    with pytest.raises(AutopeftError) as said:
        autopeft.search(model=str(folder / "model"), data=str(data), trials=1, workers=0, name="bad", **where, **more)
    assert len(str(said.value).splitlines()) == 1
    assert str(said.value).endswith(".")
    with pytest.raises(AutopeftError, match="unknown search"):
        autopeft.open("bad", where["storage"])
    return str(said.value)


def changed(folder: Path, change: Callable[[Any], None]) -> None:
    """The model gets another tokenizer."""
    tokenizer = t.AutoTokenizer.from_pretrained(folder / "model")
    change(tokenizer)
    tokenizer.save_pretrained(folder / "model")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_that_goes_on(tmp_path / "model", layers=2)
    return tmp_path


@pytest.mark.parametrize("what", ROWS)
def test_a_conversation_that_teaches_nothing_is_told_with_its_row(what: str, folder: Path) -> None:
    row, said = ROWS[what]
    assert re.search(said, refused(folder, [{"messages": TALK}, {"messages": TALK}, row]))


@pytest.mark.parametrize("what", PAIRS)
def test_a_prompt_or_completion_that_is_none_is_told_with_its_row(what: str, folder: Path) -> None:
    prompt, completion, said = PAIRS[what]
    good = {"prompt": "film", "completion": "good"}
    assert re.search(said, refused(folder, [good, good, {"prompt": prompt, "completion": completion}]))


@pytest.mark.parametrize("what", ROWS)
def test_where_no_row_is_a_conversation_none_is_asked_for_a_label(what: str, folder: Path) -> None:
    row, said = ROWS[what]
    assert re.search(said.replace("row 3", "row 1"), refused(folder, [row] * 3))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (DEAF, r"row 1 of the train split: the model's chat template leaves out what the system says \('bad'\)"),
        (STRICT, r"row 1 of the train split: the model's chat template does not take it: 'roles must alternate'"),
        ("{{ unheard", r"row 1 of the train split: the model's chat template does not take it: "),
    ],
)
def test_a_template_that_drops_turns_or_raises_is_told(template: str, said: str, folder: Path) -> None:
    changed(folder, lambda tokenizer: setattr(tokenizer, "chat_template", template))
    assert re.search(said, refused(folder, [{"messages": [SAID, *TALK]}] * 3))


def test_rows_that_are_all_masked_are_told(folder: Path) -> None:
    rows = [{"prompt": LONG, "completion": "good"}] * 3
    assert "nothing is left to learn of 3 rows: after 16 tokens (--max-length)" in refused(folder, rows, max_length=16)


def test_a_tokenizer_without_an_end_token_is_told(folder: Path) -> None:
    changed(folder, lambda tokenizer: setattr(tokenizer, "eos_token", None))
    assert "has no end token, so a model would never learn to stop" in refused(folder, [{"messages": TALK}] * 3)


def test_a_model_that_is_no_causal_one_is_told(tmp_path: Path) -> None:
    model_of_texts(tmp_path / "model", layers=2)
    assert "is no causal model" in refused(tmp_path, [{"messages": TALK}] * 3)


def test_a_vocabulary_that_is_larger_than_the_head_is_told(folder: Path) -> None:
    changed(folder, lambda tokenizer: tokenizer.add_tokens(["extraordinary"]))
    rows = [{"prompt": "film", "completion": "extraordinary"}] * 3
    assert "makes the token 'extraordinary' of these texts" in refused(folder, rows)
