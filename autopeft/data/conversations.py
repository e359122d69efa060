"""Rows that a language model learns from: conversations, prompts with their completions, and plain texts.

Read in this order, the first that is there counts; columns that are given come first:

1. `messages`: a list of `{"role", "content"}`, or `conversations` (ShareGPT): a list of `{"from", "value"}`
2. `prompt` and `completion`: texts that follow one another as they are, or lists of messages
3. `instruction` [and `input`] and `output` (Alpaca), `question` [and `context`] and `answer`, and their synonyms: a
   turn of a user and one of an assistant
4. `text`

Beside conversations may stand `system`, `tools` (a list) and `chat_template_kwargs` (a mapping), also beside 2 and 3.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from autopeft.data.cells import holds_list, is_blank, list_in
from autopeft.data.columns import LABELS, MESSAGES, TEXT, Columns, Role
from autopeft.data.files.contents import storable
from autopeft.errors import AutopeftError, unknown
from autopeft.foreign import brief

CONVERSATION, CONTINUATION, PLAIN = FORMS = ("conversation", "continuation", "text")
"""Turns, a text that goes on with another one, or one text."""
SYSTEM, USER, ASSISTANT, TOOL = SAID_BY = ("system", "user", "assistant", "tool")
_SAME = {
    **{role: role for role in SAID_BY},
    **dict.fromkeys(("human",), USER),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "model"), ASSISTANT),
    **dict.fromkeys(("developer",), SYSTEM),
    **dict.fromkeys(("function", "observation"), TOOL),
}
"""What data calls the speakers of turns."""
_PROMPTS = ("question", "query", "instruction", "problem", "prompt", "input")
_COMPLETIONS = ("answer", "response", "output", "solution", "completion", "targets", "target")
_TURNS = ("messages", "conversations", "conversation")
ROLES = {
    "completion": Role(TEXT, ("completion", "output", *_COMPLETIONS)),
    "prompt": Role(TEXT, ("prompt", "instruction", *_PROMPTS)),
    "messages": Role(MESSAGES, _TURNS),
    "text": Role(TEXT, ("text",)),
    "input": Role(TEXT, ("input", "context")),
    "system": Role(TEXT, ("system",)),
    "tools": Role(MESSAGES, ("tools",)),
    "chat_template_kwargs": Role(MESSAGES, ("chat_template_kwargs",)),
}
"""No data has all of them."""
_COMPLETION = "completion"
_ANSWERS = ("output", "response")
_PAIRS = (
    (("prompt",), ("completion",), ()),
    (("instruction",), _ANSWERS, ("input", "context")),
    (_PROMPTS, _COMPLETIONS, ("context",)),
)
"""Names of prompts, completions and what stands beside a prompt."""
_BESIDE = ("system", "tools", "chat_template_kwargs")
_OF_PREFERENCES = "chosen"
"""What data of two answers, of which one is better, calls that one."""
_DEEPEST = 20


@dataclass(frozen=True)
class Example:
    """A row, read: the same one wherever it stands, if it says the same."""

    content: str
    """As JSON: `messages`, of which those `from` a number on are learned, or which it `asks` for an answer to, with
    `tools` and `kwargs`; or `prompt` and `completion`; or `text`."""
    what: str = field(compare=False, default="")
    """Names the row."""

    def __str__(self) -> str:
        return self.content

    @property
    def read(self) -> Mapping[str, Any]:
        """The content as plain values."""
        plain: Mapping[str, Any] = json.loads(self.content)
        return plain


def guess(frame: pd.DataFrame, given: Columns, *, answered: bool = True) -> Columns:
    """Which columns serve which roles, what is learned first; without completions where rows need not be `answered`.

    Raises AutopeftError where nothing does.
    """
    names = [str(name) for name in frame.columns]
    for role, columns in given.items():
        if role not in ROLES:
            raise unknown("role", role, ROLES)
        if len(columns) != 1:
            raise AutopeftError(f"one column can be the {role}, not {len(columns)}.")
        if columns[0] not in names:
            raise unknown("column", columns[0], names)
        if names.count(columns[0]) != 1:
            raise AutopeftError(f"there are {names.count(columns[0])} columns '{columns[0]}'; rename all but one.")
    taken = {column for columns in given.values() for column in columns}
    by_name = {name.lower(): name for name in reversed(names) if name not in taken and names.count(name) == 1}
    found = {**_needed(given, by_name, names, answered), **given}
    if found.keys() & {"messages", "prompt"}:
        for role in _BESIDE:
            if role in by_name:
                found.setdefault(role, (by_name[role],))
    return {role: found[role] for role in ROLES if role in found}


def _needed(given: Columns, by_name: Mapping[str, str], names: Sequence[str], answered: bool) -> Columns:
    """The columns of the first form that is there, but for those that may be left out."""
    if not given.keys() & {"prompt", "completion", "text"}:
        if "messages" in given:
            return {}
        if turns := next((by_name[name] for name in _TURNS if name in by_name), None):
            return {"messages": (turns,)}
    if "text" in given:
        return {}
    pairs = [_pair(prompts, completions, inputs, given, by_name) for prompts, completions, inputs in _PAIRS]
    if (found := next((each for each in pairs if each.keys() >= {"prompt", "completion"}), None)) is not None:
        return found
    if not given.keys() & {"prompt", "completion"} and "text" in by_name:
        return {"text": (by_name["text"],)}
    if not answered and (found := next((each for each in pairs if "prompt" in each), None)) is not None:
        return found
    raise AutopeftError(
        f"no column holds what a language model learns from: 'messages', 'conversations', 'prompt' and 'completion', "
        f"'instruction' and 'output', 'question' and 'answer', or 'text'. There are {', '.join(names) or 'none'}; say "
        f"which by {_how(by_name)}."
    )


def _pair(
    prompts: Sequence[str],
    completions: Sequence[str],
    inputs: Sequence[str],
    given: Columns,
    by_name: Mapping[str, str],
) -> Columns:
    """Which of a prompt, its completion and what stands beside it are there under these names."""
    prompt = given.get("prompt") or _first(prompts, by_name)
    completion = given.get("completion") or _first([each for each in completions if each not in prompt], by_name)
    more = _first([each for each in inputs if by_name.get(each) not in (*prompt, *completion)], by_name)
    known = {"completion": completion, "prompt": prompt, "input": more}
    return {role: columns for role, columns in known.items() if columns}


def _how(by_name: Mapping[str, str]) -> str:
    """How to say which columns are meant."""
    if (better := by_name.get(_OF_PREFERENCES)) is None:
        return "--columns prompt=NAME,completion=NAME or --columns messages=NAME"
    return f"--columns {'completion' if 'prompt' in by_name else 'messages'}={better} to learn the better answers"


def _first(wanted: Sequence[str], by_name: Mapping[str, str]) -> tuple[str, ...]:
    return next(((by_name[name],) for name in wanted if name in by_name), ())


def is_meant(frame: pd.DataFrame, given: Columns) -> bool:
    """Whether data is surely for a language model: what else it may be is not, such as a text with a label."""
    if given:
        return given.keys() <= ROLES.keys() and bool(given.keys() & {"messages", "prompt", "completion"})
    try:
        columns = guess(frame, given)
    except AutopeftError:
        return False
    if "messages" in columns and any(map(_holds_turns, frame[columns["messages"][0]])):
        return True
    others = {str(name).lower() for name in frame.columns} - {name for each in columns.values() for name in each}
    if columns.keys() & {"messages", "text"}:
        # Of messages that are texts it is told better where turns are read what is wrong with them.
        return not others
    answer = columns["completion"][0].lower()
    if columns["prompt"][0].lower() == "instruction" and answer in _ANSWERS:
        # What kind of instruction it is (dolly's `category`) is nothing to learn.
        return "label" not in others
    return not others & {*LABELS} and answer not in LABELS


def _holds_turns(cell: object) -> bool:
    """Whether somebody says something, whatever may be wrong with it."""
    try:
        return any(isinstance(each, Mapping) and {"role", "from"} & each.keys() for each in list_in(cell))
    except AutopeftError:
        return False


def form_of(frame: pd.DataFrame, columns: Columns) -> str:
    """What rows of these columns are."""
    if "text" in columns:
        return PLAIN
    (prompt,), (answer,) = (
        columns.get(role, (other,)) for role, other in (("prompt", ""), ("completion", _COMPLETION))
    )
    if (prompt.lower(), answer.lower()) != ("prompt", _COMPLETION) or columns.keys() & {*_BESIDE}:
        return CONVERSATION
    return CONVERSATION if any(_is_said(row) for row in frame[prompt]) else CONTINUATION


def _is_said(prompt: Any) -> bool:
    """Whether a prompt is turns, no text."""
    return holds_list(prompt) and (not isinstance(prompt, str) or _holds_turns(prompt))


def examples(frame: pd.DataFrame, columns: Columns, split: str) -> tuple[Example, ...]:
    """Every row. Raises AutopeftError that names the first which cannot be read."""
    found = []
    for row, each in enumerate(_read(frame, columns), 1):
        what = f"row {row} of the {split} split"
        if isinstance(each, AutopeftError):
            raise AutopeftError(f"{what}: {each}")
        found.append(Example(each, what))
    return tuple(found)


def readable(frame: pd.DataFrame, columns: Columns) -> "pd.Series[bool]":
    """Which rows `examples` would take."""
    return pd.Series([isinstance(each, str) for each in _read(frame, columns)], frame.index, dtype=bool)


def _read(frame: pd.DataFrame, columns: Columns) -> list[str | AutopeftError]:
    cells = {role: list(frame[names[0]]) for role, names in columns.items()}
    form, found = form_of(frame, columns), list[str | AutopeftError]()
    for row in range(len(frame)):
        try:
            content = _content({role: values[row] for role, values in cells.items()}, form)
            found.append(json.dumps(content, ensure_ascii=False))
        except AutopeftError as error:
            found.append(error)
    return found


def asked(given: Any, form: str) -> Example:
    """What a person asks: a text, a list of messages, or a mapping as a row has it, with its answer or without.

    Raises AutopeftError.
    """
    if isinstance(given, str):
        if not given:
            raise AutopeftError("there is nothing to go on with in an empty text.")
        text = storable(given)
        turns = [{"role": USER, "content": text}]
        content: Mapping[str, Any] = {"messages": turns, "asks": True} if form == CONVERSATION else {"prompt": text}
    elif isinstance(given, list | tuple):
        turns = _turns(list(given), answered=False)
        content = {"messages": turns, "asks": turns[-1]["role"] != ASSISTANT}
    elif isinstance(given, Mapping):
        content = _asked_row(given, form)
    else:
        raise AutopeftError(
            f"give a text, a list of messages, or a mapping as a row of the data has it, not {brief(given)}."
        )
    return Example(json.dumps(content, ensure_ascii=False), "what was asked")


def _asked_row(given: Mapping[Any, Any], form: str) -> Mapping[str, Any]:
    frame = pd.DataFrame([{str(name)[:100]: value for name, value in given.items()}], dtype=object)
    columns = guess(frame, {}, answered=False)
    row = {role: given[names[0]] for role, names in columns.items()}
    if is_blank(row.get("completion")):
        row.pop("completion", None)
    meant = form_of(frame, columns) if form == PLAIN or "text" in row else form
    content = _content(row, meant, answered=False)
    asks = "messages" in content and content["messages"][-1]["role"] != ASSISTANT
    return content | ({"asks": True} if asks else {})


def _content(row: Mapping[str, Any], form: str, answered: bool = True) -> dict[str, Any]:
    """A row as plain values; it must be `answered` to be learned from. Raises AutopeftError."""
    if "text" in row:
        return {"text": _text(row["text"], "text")}
    if "messages" in row:
        return {"messages": _led(row, _turns(row["messages"], answered)), **_beside(row)}
    prompt, completion = row["prompt"], row.get("completion", "")
    if _is_said(prompt) and _is_said(completion):
        before, answers = _led(row, _turns(prompt, answered=False)), _turns(completion)
        return {"messages": [*before, *answers], "from": len(before), **_beside(row)}
    if not answered and _is_said(prompt):
        return {"messages": _led(row, _turns(prompt, answered)), **_beside(row)}
    said = {role: _text(row[role], role) for role in ("prompt", "completion") if answered or role in row}
    if form == CONTINUATION:
        return said
    asked = said["prompt"] if is_blank(row.get("input")) else f"{said['prompt']}\n\n{_text(row['input'], 'input')}"
    answer = [{"role": ASSISTANT, "content": said["completion"]}] if "completion" in said else []
    return {"messages": _led(row, [{"role": USER, "content": asked}, *answer]), **_beside(row)}


def _led(row: Mapping[str, Any], turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns after what the system says beside them, unless it says something in them. Raises AutopeftError."""
    if is_blank(row.get(SYSTEM)) or turns[0]["role"] == SYSTEM:
        return turns
    return [{"role": SYSTEM, "content": _text(row[SYSTEM], SYSTEM)}, *turns]


def _beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row is said to the chat template, beside the turns. Raises AutopeftError."""
    said: dict[str, Any] = {}
    if not is_blank(row.get("tools")):
        tools = [_plain(each) for each in list_in(row["tools"])]
        if not all(isinstance(each, dict) and isinstance(each.get("function", each), dict) for each in tools):
            raise AutopeftError(f"tools are a list of mappings, each a JSON schema, not {brief(row['tools'])}.")
        said |= {"tools": tools} if tools else {}
    if not is_blank(row.get("chat_template_kwargs")):
        given = row["chat_template_kwargs"]
        if isinstance(given, str):
            with suppress(ValueError, RecursionError):
                given = json.loads(given)
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise AutopeftError(f"chat_template_kwargs are a mapping of names to values, not {brief(given)}.")
        said |= {"kwargs": _plain(given)} if given else {}
    return said


def _turns(cell: Any, answered: bool = True) -> list[dict[str, Any]]:
    """The turns of a conversation, by role and content. Raises AutopeftError, also where nobody answers in it."""
    if isinstance(cell, str) and not holds_list(cell):
        raise AutopeftError(
            f'a conversation is a list of turns such as {{"role": "user", "content": "…"}}, not the text {brief(cell)}.'
        )
    turns = [_turn(each, number, answered) for number, each in enumerate(list_in(cell), 1)]
    if not turns:
        raise AutopeftError("a conversation without turns; leave it out.")
    if answered and not any(turn["role"] == ASSISTANT for turn in turns):
        raise AutopeftError("no turn of the conversation is the assistant's: there is no answer to learn.")
    return turns


def _turn(given: Any, number: int, answered: bool) -> dict[str, Any]:
    """Where the answer is asked for, an earlier one may have been empty."""
    if not isinstance(given, Mapping):
        raise AutopeftError(
            f'turn {number} of the conversation is no mapping such as {{"role": "user", "content": "…"}}, but '
            f"{brief(given)}."
        )
    turn = _plain({str(name): value for name, value in given.items()})
    if "role" not in turn and "from" in turn:
        turn["role"] = turn.pop("from")
    if "content" not in turn and "value" in turn:
        turn["content"] = turn.pop("value")
    role = _SAME.get(turn.get("role", "").casefold()) if isinstance(turn.get("role", ""), str) else None
    if role is None:
        raise AutopeftError(
            f"turn {number} of the conversation is said by {brief(turn.get('role', 'nobody'))}; known are "
            f"{', '.join(SAID_BY)}, and ShareGPT's human and gpt."
        )
    content = turn.get("content")
    if isinstance(content, list) and all(
        isinstance(each, dict) and isinstance(each.get("text"), str) for each in content
    ):
        content = "".join(each["text"] for each in content)
    if calls := _called(turn.pop("tool_calls", None), number):
        # Templates look whether there is such a name, and would write none as calls.
        turn["tool_calls"] = calls
    if not (isinstance(content, str) or (content is None and calls)):
        raise AutopeftError(f"turn {number} of the conversation has no text as its content, but {brief(content)}.")
    if answered and role == ASSISTANT and not calls and not str(content).strip():
        raise AutopeftError(
            f"turn {number} of the conversation, the assistant's, is empty: there is no answer to learn."
        )
    return {**turn, "role": role, **({} if content is None else {"content": content})}


def _called(cell: Any, number: int) -> list[Any]:
    """What a turn calls. Raises AutopeftError."""
    calls = [] if is_blank(cell) else list_in(cell)
    if not all(isinstance(each, dict) and isinstance(each.get("function", each), dict) for each in calls):
        raise AutopeftError(f"the tool_calls of turn {number} are a list of mappings, not {brief(cell)}.")
    return calls


def _text(cell: Any, role: str) -> str:
    if is_blank(cell):
        raise AutopeftError(f"its {role} is empty; fill it in or leave the row out.")
    if not isinstance(cell, str):
        raise AutopeftError(f"its {role} is no text, but {brief(cell)}.")
    return storable(cell)


def _plain(value: Any, depth: int = 0) -> Any:
    """Values as JSON has them, without what is None: Parquet fills up with it. Raises AutopeftError."""
    if depth > _DEEPEST:
        raise AutopeftError(f"it is nested more than {_DEEPEST} deep.")
    if isinstance(value, Mapping):
        return {storable(str(name)): _plain(each, depth + 1) for name, each in value.items() if each is not None}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 1e300):
        return value
    raise AutopeftError(f"{brief(value)} is nothing that a template can show.")
