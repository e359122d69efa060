"""Every form of rows that a language model learns from is known; what cannot be learned is answered with its row."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autopeft.data.conversations import CONTINUATION, CONVERSATION, PLAIN, asked, examples, form_of, guess, is_meant
from autopeft.errors import AutopeftError
from autopeft.tasks.named import guess_task

HELLO = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi!"}]
SHARED = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hi!"}]


def read(row: dict[str, Any]) -> tuple[dict[str, tuple[str, ...]], str, Any]:
    """Columns, form and content of rows like this one."""
    frame = pd.DataFrame([row, row], dtype=object)
    columns = guess(frame, {})
    (example, _) = examples(frame, columns, "train")
    return dict(columns), form_of(frame, columns), example.read


FORMS = {
    "messages": ({"messages": HELLO}, CONVERSATION, {"messages": HELLO}),
    "ShareGPT": ({"id": 7, "conversations": SHARED}, CONVERSATION, {"messages": HELLO}),
    "as JSON in a CSV": ({"messages": json.dumps(HELLO)}, CONVERSATION, {"messages": HELLO}),
    "from Parquet": (
        {"messages": np.array([{**turn, "tool_calls": None} for turn in HELLO], dtype=object)},
        CONVERSATION,
        {"messages": HELLO},
    ),
    "prompt and completion": (
        {"prompt": "2+2=", "completion": " 4"},
        CONTINUATION,
        {"prompt": "2+2=", "completion": " 4"},
    ),
    "prompt and completion as messages": (
        {"prompt": HELLO[:1], "completion": HELLO[1:]},
        CONVERSATION,
        {"messages": HELLO, "from": 1},
    ),
    "prompt and completion as messages in a CSV": (
        {"prompt": json.dumps(HELLO[:1]), "completion": json.dumps(HELLO[1:])},
        CONVERSATION,
        {"messages": HELLO, "from": 1},
    ),
    "prompt and completion that look like lists": (
        {"prompt": "[1, 2]", "completion": "[3]"},
        CONTINUATION,
        {"prompt": "[1, 2]", "completion": "[3]"},
    ),
    "ShareGPT with a system beside it": (
        {"conversations": SHARED, "system": "Be brief."},
        CONVERSATION,
        {"messages": [{"role": "system", "content": "Be brief."}, *HELLO]},
    ),
    "a system that is said, and another one beside": (
        {
            "prompt": [{"role": "system", "content": "Be kind."}, HELLO[0]],
            "completion": HELLO[1:],
            "system": "Be brief.",
        },
        CONVERSATION,
        {"messages": [{"role": "system", "content": "Be kind."}, *HELLO], "from": 2},
    ),
    "a prompt with tools": (
        {"prompt": "Hello?", "completion": "Hi!", "tools": [{"name": "add"}]},
        CONVERSATION,
        {"messages": HELLO, "tools": [{"name": "add"}]},
    ),
    "instructions of several kinds": (
        {"instruction": "Who?", "context": "She did.", "response": "She", "category": "closed_qa"},
        CONVERSATION,
        {"messages": [{"role": "user", "content": "Who?\n\nShe did."}, {"role": "assistant", "content": "She"}]},
    ),
    "without calls of tools": (
        {"messages": [HELLO[0], {**HELLO[1], "tool_calls": []}]},
        CONVERSATION,
        {"messages": HELLO},
    ),
    "calls as JSON": (
        {"messages": [HELLO[0], {"role": "assistant", "tool_calls": '[{"name": "add"}]'}]},
        CONVERSATION,
        {"messages": [HELLO[0], {"role": "assistant", "tool_calls": [{"name": "add"}]}]},
    ),
    "Alpaca": (
        {"instruction": "Add.", "input": "2, 2", "output": "4"},
        CONVERSATION,
        {"messages": [{"role": "user", "content": "Add.\n\n2, 2"}, {"role": "assistant", "content": "4"}]},
    ),
    "Alpaca without input, with a system": (
        {"system": "Be brief.", "instruction": "Add.", "input": "", "output": "4"},
        CONVERSATION,
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Add."},
                {"role": "assistant", "content": "4"},
            ]
        },
    ),
    "question, context, answer": (
        {"question": "Who?", "context": "She did.", "answer": "She"},
        CONVERSATION,
        {"messages": [{"role": "user", "content": "Who?\n\nShe did."}, {"role": "assistant", "content": "She"}]},
    ),
    "query and response": (
        {"query": "Who?", "response": "She"},
        CONVERSATION,
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "She"}]},
    ),
    "text": ({"text": "Once upon a time"}, PLAIN, {"text": "Once upon a time"}),
    "tools and arguments of the template": (
        {"messages": HELLO, "tools": [{"name": "add"}], "chat_template_kwargs": {"enable_thinking": False}},
        CONVERSATION,
        {"messages": HELLO, "tools": [{"name": "add"}], "kwargs": {"enable_thinking": False}},
    ),
    "parts of text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello?"}]}, HELLO[1]]},
        CONVERSATION,
        {"messages": HELLO},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_known(name: str) -> None:
    row, form, content = FORMS[name]
    columns, found, read_ = read(row)
    assert (found, read_) == (form, content)
    assert {column for names in columns.values() for column in names} <= row.keys()
    frame = pd.DataFrame([row, row], dtype=object)
    assert guess_task(frame, {}).name == "text-generation"


def test_what_is_there_first_counts_and_given_columns_before_all() -> None:
    both = pd.DataFrame([{"messages": HELLO, "prompt": "a b", "completion": "c d", "text": "e f"}], dtype=object)
    assert guess(both, {}) == {"messages": ("messages",)}
    assert guess(both, {"prompt": ("prompt",)}) == {"completion": ("completion",), "prompt": ("prompt",)}
    assert guess(both, {"text": ("text",)}) == {"text": ("text",)}
    named = pd.DataFrame([{"frage": "Wer?", "antwort": "Sie"}], dtype=object)
    given = {"prompt": ("frage",), "completion": ("antwort",)}
    assert guess(named, given) == {"completion": ("antwort",), "prompt": ("frage",)}
    assert form_of(named, guess(named, given)) == CONVERSATION


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a good film", "label": "good"},
        {"question": "Who?", "sentence": "She did.", "label": 1},
        {"question": "Who?", "answer": "She", "label": "right"},
        {"text": "a good film", "stars": 4.5},
        {"instruction": "Turn it up", "target": "volume"},
        {"messages": "a film", "label": "good"},
        {"instruction": "Who?", "output": "She", "label": False},
    ],
)
def test_data_for_other_tasks_is_not_taken_for_it(row: dict[str, Any]) -> None:
    assert not is_meant(pd.DataFrame([row] * 3, dtype=object), {})


def test_data_without_any_form_is_told_which_there_are() -> None:
    with pytest.raises(
        AutopeftError, match=r"no column holds what a language model learns .* There are a, b; say which"
    ):
        guess(pd.DataFrame([{"a": 1, "b": 2}]), {})
    for better, more in (("completion", {"prompt": "a"}), ("messages", {})):
        with pytest.raises(AutopeftError, match=rf"say which by --columns {better}=chosen to learn the better answers"):
            guess(pd.DataFrame([{**more, "chosen": "b", "rejected": "c"}]), {})
    with pytest.raises(AutopeftError, match=r"unknown column 'messsages'\. Did you mean 'messages'\?"):
        guess(pd.DataFrame([{"messages": HELLO}]), {"messages": ("messsages",)})


WRONG = {
    "no turn of the conversation is the assistant's: there is no answer to learn": HELLO[:1],
    "turn 1 of the conversation is said by 'narrator'; known are system, user, assistant, tool": [
        {"role": "narrator", "content": "Once"},
        HELLO[1],
    ],
    "turn 1 of the conversation is said by 'nobody'": [{"content": "Once"}, HELLO[1]],
    "a conversation is a list of turns such as .*, not the text 'Hello there'": "Hello there",
    "turn 2 of the conversation, the assistant's, is empty": [HELLO[0], {"role": "assistant", "content": " "}],
    "turn 1 of the conversation has no text as its content, but 7": [{"role": "user", "content": 7}, HELLO[1]],
    "turn 1 of the conversation is no mapping such as .*, but 'Hello'": ["Hello"],
    "a conversation without turns": [],
    "the tool_calls of turn 2 are a list of mappings, not .'add'.": [
        HELLO[0],
        {"role": "assistant", "tool_calls": ["add"]},
    ],
}


@pytest.mark.parametrize("said", WRONG)
def test_a_conversation_that_cannot_be_learned_is_answered_with_its_row(said: str) -> None:
    frame = pd.DataFrame({"messages": [HELLO, WRONG[said], HELLO]}, dtype=object)
    with pytest.raises(AutopeftError, match=rf"^row 2 of the validation split: {said}"):
        examples(frame, {"messages": ("messages",)}, "validation")


@pytest.mark.parametrize("cell", ["", "  ", None, np.nan])
def test_an_empty_completion_is_answered_with_its_row(cell: Any) -> None:
    frame = pd.DataFrame({"prompt": ["a", "b"], "completion": ["c", cell]}, dtype=object)
    with pytest.raises(AutopeftError, match=r"row 2 of the train split: its completion is empty; fill it in or leave"):
        examples(frame, guess(frame, {}), "train")


def test_tools_and_arguments_that_are_none_are_answered() -> None:
    for name, cell, said in (
        ("tools", ["add"], "tools are a list of mappings"),
        ("chat_template_kwargs", "[1]", "chat_template_kwargs are a mapping"),
    ):
        frame = pd.DataFrame([{"messages": HELLO, name: cell}], dtype=object)
        with pytest.raises(AutopeftError, match=said):
            examples(frame, guess(frame, {}), "train")


def test_what_is_asked_is_a_text_messages_or_a_row() -> None:
    assert asked("2+2=", CONTINUATION).read == {"prompt": "2+2="}
    assert asked("Hello?", CONVERSATION).read == {"messages": HELLO[:1], "asks": True}
    assert asked(HELLO[:1], CONVERSATION).read == {"messages": HELLO[:1], "asks": True}
    assert not asked(HELLO, CONVERSATION).read["asks"]
    assert asked({"prompt": "2+2=", "completion": " 4"}, CONTINUATION).read == {"prompt": "2+2=", "completion": " 4"}
    assert asked({"question": "Hello?", "answer": "Hi!"}, CONVERSATION).read == {"messages": HELLO}
    with pytest.raises(AutopeftError, match=r"give a text, a list of messages, or a mapping as a row"):
        asked(7, CONVERSATION)


def test_a_row_is_asked_without_its_answer_too() -> None:
    asks = {"messages": HELLO[:1], "asks": True}
    assert asked({"prompt": "2+2="}, CONTINUATION).read == {"prompt": "2+2="}
    assert asked({"prompt": "2+2=", "completion": ""}, PLAIN).read == {"prompt": "2+2="}
    assert asked({"text": "Once", "problem": "none"}, PLAIN).read == {"text": "Once"}
    for row in (
        {"messages": HELLO[:1]},
        {"conversations": SHARED[:1]},
        {"prompt": HELLO[:1]},
        {"question": "Hello?"},
        {"instruction": "Hello?", "input": None, "output": None},
    ):
        assert asked(row, CONVERSATION).read == asks, row
    row = {"instruction": "Add.", "input": "2, 2", "system": "Be brief."}
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add.\n\n2, 2"}]
    assert asked(row, CONVERSATION).read == {"messages": told, "asks": True}
