"""From rows to tokens of a language model, and which of them are learned.

A conversation is written as the tokenizer's chat template writes it, or by a plain template where it has none, as base
models have not. What the assistant says is learned: what the template marks as such (`{% generation %}`), else what a
turn adds to the conversation before it. A template that writes earlier turns otherwise once others follow (Qwen3 leaves
out their reasoning) tells the last answer only. A prompt with its completion is one text after the other, with an end
token behind them.

The tokens of what comes before an answer are tokens of the whole up to there, because a model that generates sees no
more; where a tokenizer joins characters across that place, the pieces are made into tokens one by one.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from autopeft.data.conversations import ASSISTANT, SYSTEM, USER, Example
from autopeft.errors import AutopeftError
from autopeft.foreign import brief
from autopeft.tasks.heads import NO_LABEL

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] | capitalize + ':\\n' + message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
"""How conversations are written for a model that has no chat template."""
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_ASKED, _ANSWERED = "Which way?", "Onwards."
_OTHERWISE = "\ue000"
"""No text has this character: what is written instead of it differs from its beginning on."""
_INSTEAD = "put it at the beginning of the first turn of the user"
_CHUNK = 500
"""Rows that are made into tokens at a time."""
_REASON = 200


class Piece(NamedTuple):
    """A part of a rendered row."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Rendered:
    """A row as it is written."""

    pieces: tuple[Piece, ...]
    follows: bool
    """Whether a text is gone on with as it is: a start token comes before it, and an end token after an answer."""
    untold: int = 0
    """Turns of the assistant that cannot be told from what comes before, and are not learned."""

    @property
    def ends(self) -> bool:
        """Whether it has an answer."""
        return any(piece.learned for piece in self.pieces)


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template that conversations are written by: a plain one begins as the tokenizer lets every text begin,
    which some models (Gemma) read nothing sensible without.
    """
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default") or next(iter(own.values()), None)
    if own:
        return str(own)
    begins = tokenizer.bos_token_id is not None and _start(tokenizer) == [tokenizer.bos_token_id]
    return ("{{ bos_token }}" if begins else "") + PLAIN_TEMPLATE


def require_end(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raises AutopeftError for a tokenizer that cannot say where a text ends."""
    if tokenizer.eos_token_id is None:
        raise AutopeftError(
            f"the tokenizer of '{name}' has no end token, so a model would never learn to stop: set one "
            "(`tokenizer.eos_token = …`) and save it again."
        )


def ends(tokenizer: PreTrainedTokenizerBase, in_turns: bool) -> frozenset[int]:
    """Tokens that an answer is over at: the end token, and `in_turns` the one that the chat template ends a turn by."""
    found = {tokenizer.eos_token_id}
    if in_turns:
        turns = [{"role": USER, "content": _ASKED}, {"role": ASSISTANT, "content": _ANSWERED}]
        with suppress(AutopeftError):
            after = _Writer(tokenizer, {})(turns).partition(_ANSWERED)[2]
            first = _ids(tokenizer, [after.lstrip()])[0][:1]
            found |= {token for token in first if _is_special(tokenizer, token)}
    return frozenset(token for token in found if token is not None)


def _is_special(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token is no text: most tokenizers mark an end of turns so, few (Llama 3) call it their end token."""
    added = tokenizer.added_tokens_decoder.get(token)
    return token in tokenizer.all_special_ids or bool(added is not None and added.special)


def rendered(example: Example, tokenizer: PreTrainedTokenizerBase) -> Rendered:
    """A row as it is written. Raises AutopeftError that names the row."""
    row = example.read
    if "text" in row:
        return Rendered((Piece(row["text"], learned=True),), follows=True)
    if "prompt" in row:
        answer = (Piece(row["completion"], learned=True),) if "completion" in row else ()
        return Rendered((Piece(row["prompt"], learned=False), *answer), follows=True)
    write = _Writer(tokenizer, row)
    try:
        if row.get("asks"):
            return Rendered((Piece(write(row["messages"], asks=True), learned=False),), follows=False)
        return _conversation(write, row["messages"], row.get("from", 0))
    except AutopeftError as error:
        raise AutopeftError(f"{example.what}: {error}") from error


class _Writer:
    """Writes beginnings of one conversation."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, row: Any) -> None:
        self._tokenizer = tokenizer
        self.template = template_of(tokenizer)
        self.tools: Sequence[Any] = row.get("tools") or ()
        self.end = str(tokenizer.eos_token)
        self._beside = {**row.get("kwargs", {}), "tools": row.get("tools")}

    def __call__(self, turns: Sequence[Any], *, asks: bool = False) -> str:
        """`asks` writes what stands before an answer, too. Raises AutopeftError."""
        try:
            text = self._tokenizer.apply_chat_template(
                [*turns],
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=asks,
                **self._beside,
            )
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise AutopeftError(f"the model's chat template does not take it: {brief(reason, _REASON)}.") from error
        return str(text)

    def marked(self, turns: Sequence[Any]) -> list[tuple[int, int]]:
        """From where to where the template marks what is to be learned; nothing where it marks nothing."""
        if not _MARKS.search(self.template):
            return []
        from transformers.utils.chat_template_utils import render_jinja_template

        found: Any = render_jinja_template(
            [[*turns]],
            chat_template=self.template,
            return_assistant_tokens_mask=True,
            **{**self._tokenizer.special_tokens_map, **self._beside},
        )
        return [(start, end) for start, end in found[1][0]]


def _conversation(write: _Writer, turns: Sequence[Any], first: int) -> Rendered:
    """Turns of the assistant `first` or after it are learned. Raises AutopeftError."""
    last = max(number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT)
    # What follows the last answer is nothing to learn from.
    turns = turns[: last + 1]
    whole = _whole(write, turns)
    _require_said(whole, turns, write.tools)
    said = [number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    wanted, places = [number for number in said if number >= first], write.marked(turns)
    if len(wanted) < len(said):
        # Which marks are whose can be told where each turn has one.
        places = places[-len(wanted) :] if len(places) == len(said) else []
    untold = 0
    if not places:
        found = [_place(write, turns, number, whole) for number in wanted]
        places = [place for place in found if place is not None]
        untold = len(found) - len(places)
    if not places:
        raise AutopeftError("the model's chat template does not show where its last answer begins.")
    return Rendered(tuple(_pieces(whole, places)), follows=False, untold=untold)


def _whole(write: _Writer, turns: Sequence[Any]) -> str:
    """All turns. Raises AutopeftError, with advice where the template takes all but the system's."""
    try:
        return write(turns)
    except AutopeftError as error:
        if turns[0]["role"] == SYSTEM and _takes(write, turns[1:]):
            raise AutopeftError(
                f"{str(error).rstrip('.')}; without what the system says it does: {_INSTEAD}."
            ) from error
        raise


def _takes(write: _Writer, turns: Sequence[Any]) -> bool:
    with suppress(AutopeftError):
        write(turns)
        return True
    return False


def _require_said(whole: str, turns: Sequence[Any], tools: Sequence[Any]) -> None:
    """Raises AutopeftError for a template that leaves out what is read before answers, or what is called in them."""
    for turn in turns:
        content = turn.get("content", "").strip()
        if turn["role"] != ASSISTANT and not _holds(whole, content):
            raise AutopeftError(
                f"the model's chat template leaves out what the {turn['role']} says ({brief(content)})"
                + (f"; {_INSTEAD}." if turn["role"] == SYSTEM else ".")
            )
    calls = [call for turn in turns for call in turn.get("tool_calls", ())]
    for what, some, instead in (
        ("the call of a tool", calls, "write calls into the texts of turns"),
        ("the tools", tools, "tell of them in the first turn of the user, and leave the column 'tools' out"),
    ):
        for each in some:
            name = each.get("name", each.get("function", {}).get("name"))
            if isinstance(name, str) and name not in whole:
                raise AutopeftError(f"the model's chat template leaves out {what} {brief(name)}; {instead}.")


def _holds(whole: str, content: str) -> bool:
    """Whether a text stands in the whole, as it is or as JSON has it."""
    return content in whole or any(json.dumps(content, ensure_ascii=each)[1:-1] in whole for each in (True, False))


def _place(write: _Writer, turns: Sequence[Any], number: int, whole: str) -> tuple[int, int] | None:
    """From where to where a turn of the assistant stands in the whole; None where that cannot be told."""
    upto = whole if number == len(turns) - 1 else _upto(write, turns[: number + 1], whole)
    if upto is None:
        return None
    if number:
        # A template may refuse a beginning, such as a system's turn alone.
        with suppress(AutopeftError):
            before = write(turns[:number], asks=True)
            if upto.startswith(before):
                return len(before), len(upto)
    with suppress(AutopeftError):
        other = write([*turns[:number], {**turns[number], "content": _OTHERWISE}])
        if _OTHERWISE in other:
            both = enumerate(zip(other, upto, strict=False))
            return next((at for at, (one, two) in both if one != two), len(upto)), len(upto)
    return None


def _upto(write: _Writer, turns: Sequence[Any], whole: str) -> str | None:
    """The beginning of the whole that holds these turns; None where they are written otherwise in it."""
    upto = write(turns)
    if whole.startswith(upto):
        return upto
    # Phi's templates end all turns together by an end token, beside the last turn's own end.
    bare = upto.removesuffix(write.end)
    is_ended = not bare.endswith(turns[-1].get("content", "").strip())
    return bare if bare != upto and is_ended and whole.startswith(bare) else None


def _pieces(whole: str, places: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    at = 0
    for start, end in places:
        if start > at:
            yield Piece(whole[at:start], learned=False)
        yield Piece(whole[start:end], learned=True)
        at = end
    if at < len(whole):
        yield Piece(whole[at:], learned=False)


def tokens(rows: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], list[int]]]:
    """For each row its tokens, and its labels: the same tokens where they are learned."""
    for start in range(0, len(rows), _CHUNK):
        yield from _some_tokens(rows[start : start + _CHUNK], tokenizer)


def _some_tokens(rows: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], list[int]]]:
    beginnings = ["".join(piece.text for piece in row.pieces[: n + 1]) for row in rows for n in range(len(row.pieces))]
    made = iter(_ids(tokenizer, beginnings))
    start, end = _start(tokenizer), tokenizer.eos_token_id
    for row in rows:
        upto = [next(made) for _ in row.pieces]
        whole = upto[-1]
        parts = [ids[len(before) :] for before, ids in zip(([], *upto), upto, strict=False)]
        if any(whole[: len(each)] != each for each in upto):
            parts = _ids(tokenizer, [piece.text for piece in row.pieces])
        if row.follows and row.ends and parts[-1][-1:] != [end]:
            parts[-1] = [*parts[-1], end]
        ids, labels = ([*start], [NO_LABEL] * len(start)) if row.follows else ([], [])
        for piece, part in zip(row.pieces, parts, strict=True):
            ids += part
            labels += _labels(part, end) if piece.learned else [NO_LABEL] * len(part)
        yield ids, labels


def asking(ids: Sequence[int], labels: Sequence[int]) -> int:
    """Tokens before the last answer: all where there is none."""
    learned = np.flatnonzero(np.asarray(labels) != NO_LABEL)
    return int(learned[np.flatnonzero(np.diff(learned, prepend=-2) > 1)[-1]]) if len(learned) else len(ids)


def _labels(part: Sequence[int], end: int | None) -> list[int]:
    """An answer is over at its end token, whatever a template writes behind it."""
    over = max((at + 1 for at, token in enumerate(part) if token == end), default=len(part))
    return [*part[:over], *[NO_LABEL] * (len(part) - over)]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Of each text, whatever its length."""
    if not texts:
        return []
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return found


def _start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text."""
    bare, framed = (tokenizer("a", add_special_tokens=each)["input_ids"] for each in (False, True))
    at = next((n for n in range(len(framed)) if framed[n : n + len(bare)] == bare), 0)
    return list(framed[:at])
