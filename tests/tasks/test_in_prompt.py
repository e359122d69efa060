"""Examples in a prompt: what a model reads before a row, and that the row's own answer is judged, token for token."""

from collections.abc import Sequence

import numpy as np
import pytest
import transformers as t

from autopeft.data.conversations import Example
from autopeft.tasks.in_prompt import Asked, asked_after
from autopeft.tasks.rendering import rendered, tokens
from tests.tasks.test_text_generation import CHATML, FORGETFUL, MARKED, TALK, row_of, tokenizer

SHORT = [
    {"role": "system", "content": "Be loud."},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
]


def read(row: Example, of: t.PreTrainedTokenizerFast, longest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    ((ids, labels),) = tokens([rendered(row, of)], of)
    return np.array(ids[:longest]), np.array(labels[:longest])


def asked(
    row: Example, examples: Sequence[Example], of: t.PreTrainedTokenizerFast, positions: int | None = None
) -> Asked:
    return asked_after(examples, [row], [read(row, of)], of, positions)


def told(found: Asked, of: t.PreTrainedTokenizerFast) -> tuple[str, str]:
    """What is read, and what of it is judged."""
    ((ids, labels),) = found.tokens
    return of.decode(ids), of.decode([label for label in labels if label >= 0])


@pytest.mark.parametrize("template", [CHATML, MARKED, FORGETFUL, None])
def test_examples_are_earlier_turns_of_a_conversation_and_the_rows_own_answers_are_judged(template: str | None) -> None:
    of = tokenizer(template)
    row, example = row_of(messages=TALK), row_of(messages=SHORT)
    whole, judged = told(asked(row, [example, example], of), of)
    assert judged == of.decode([label for label in read(row, of)[1] if label >= 0])
    assert whole.count("1+1?") == 2
    assert whole.index("Be brief.") < whole.index("1+1?") < whole.index("2+2?")
    assert "Be loud." not in whole


def test_without_examples_a_row_is_read_as_it_is_up_to_its_last_answer() -> None:
    of = tokenizer(CHATML)
    ids, labels = read(row_of(messages=TALK), of)
    found = asked(row_of(messages=TALK), [], of)
    last = int(np.flatnonzero(labels >= 0)[-1]) + 1
    assert found.tokens == [(ids[:last].tolist(), labels[:last].tolist())]
    assert found.more == 0


def test_examples_of_texts_that_are_gone_on_with_stand_before_the_prompt_with_their_ends() -> None:
    of = tokenizer()
    row, example = row_of(prompt="2+2=", completion=" 4"), row_of(prompt="1+1=", completion=" 2")
    found = asked(row, [example], of)
    assert told(found, of) == ("1+1= 2<|im_end|>\n\n2+2= 4<|im_end|>", " 4<|im_end|>")
    assert found.more == len(of("1+1= 2<|im_end|>\n\n")["input_ids"])


def test_what_does_not_fit_into_the_models_positions_is_left_out() -> None:
    of = tokenizer()
    row, example = row_of(prompt="2+2=", completion=" 4"), row_of(prompt="1+1=", completion=" 2")
    needed = len(asked(row, [example], of).tokens[0][0])
    assert asked(row, [example], of, positions=needed).places.tolist() == [0]
    assert asked(row, [example], of, positions=needed - 1).places.tolist() == []


def test_of_an_answer_that_was_cut_short_as_much_is_judged_as_of_the_row_alone() -> None:
    of = tokenizer()
    row, example = row_of(prompt="ab=", completion=" long answer"), row_of(prompt="x=", completion=" y")
    found = asked_after([example], [row], [read(row, of, longest=8)], of, None)
    assert told(found, of)[1] == " long "
    assert len(found.tokens[0][0]) - found.more == 8


def test_a_row_whose_answer_would_be_other_tokens_after_examples_is_not_asked() -> None:
    of = tokenizer(CHATML + "{% if messages | length > 5 %}…{% endif %}")
    shouting = tokenizer(
        "{% for m in messages %}{{ m['role'] + (m['content'] | upper if messages | length > 5 else m['content']) }}"
        "{{ '<|im_end|>' }}{% endfor %}"
    )
    row, example = row_of(messages=[TALK[1], {"role": "assistant", "content": "four"}]), row_of(messages=SHORT)
    assert asked(row, [example], of).places.tolist() == [0]
    assert asked(row, [example, example], shouting).places.tolist() == []
