"""What a language model gets to read of a row, which of its tokens are learned, and what is said of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import transformers as t
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from autopeft.backbone.load import Backbone, load_backbone
from autopeft.data.conversations import Example, asked, examples, guess
from autopeft.data.rows import Rows
from autopeft.data.store import Column, Dataset
from autopeft.errors import AutopeftError
from autopeft.tasks.heads import NO_LABEL
from autopeft.tasks.rendering import ends, rendered, tokens
from autopeft.tasks.text_generation import TextGeneration
from autopeft.tasks.texts import IDS
from tests.tasks.examples import model_that_goes_on

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)
FORGETFUL = CHATML.replace("m['content'] +", "(m['content'] if loop.last else m['content'].split('</think>') | last) +")
"""Leaves out the reasoning of earlier turns, as Qwen3's does."""
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": "6"},
]


def tokenizer(template: str | None = None) -> t.PreTrainedTokenizerFast:
    """Of bytes, which joins those that were often side by side, also across the seam of a prompt and an answer."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["ab ab ab ab"], trainer)
    made = t.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = template
    return made


def row_of(**cells: Any) -> Example:
    frame = pd.DataFrame([cells], dtype=object)
    return examples(frame, guess(frame, {}), "train")[0]


def learned(example: Example, of: t.PreTrainedTokenizerFast) -> tuple[str, list[str]]:
    """The text that the model reads, and each stretch of it that is learned."""
    ((ids, labels),) = tokens([rendered(example, of)], of)
    assert all(label in (NO_LABEL, token) for token, label in zip(ids, labels, strict=True))
    stretches: list[list[int]] = [[]]
    for label in labels:
        if label == NO_LABEL:
            stretches.append([])
        else:
            stretches[-1].append(label)
    return of.decode(ids), [of.decode(each) for each in stretches if each]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_of_a_conversation_the_assistants_turns_are_learned_up_to_their_end(template: str) -> None:
    whole, found = learned(row_of(messages=TALK), tokenizer(template))
    assert found == ["4<|im_end|>", "6<|im_end|>"]
    assert whole == tokenizer(template).apply_chat_template(TALK, tokenize=False)


def test_what_follows_the_last_answer_is_left_out() -> None:
    whole, found = learned(row_of(messages=TALK[:4]), tokenizer(CHATML))
    assert found == ["4<|im_end|>"]
    assert "3+3" not in whole


def test_an_answer_is_asked_to_all_turns() -> None:
    whole, found = learned(asked(TALK[:4], "conversation"), tokenizer(CHATML))
    assert not found
    assert whole.endswith("And 3+3?<|im_end|>\n<|im_start|>assistant\n")


def test_a_template_that_writes_earlier_turns_otherwise_tells_the_last_answer_only() -> None:
    talk = [*TALK[:2], {"role": "assistant", "content": "easy</think>4"}, *TALK[3:]]
    example, of = row_of(messages=talk), tokenizer(FORGETFUL)
    assert learned(example, of)[1] == ["6<|im_end|>"]
    assert rendered(example, of).untold == 1


def test_without_a_chat_template_conversations_are_written_by_a_plain_one() -> None:
    whole, found = learned(row_of(messages=TALK), tokenizer())
    assert found == ["4<|im_end|>", "6<|im_end|>"]
    assert whole.startswith("### System:\nBe brief.\n\n### User:\n2+2?\n\n### Assistant:\n4<|im_end|>\n\n### User:\n")


def test_the_plain_template_begins_as_the_tokenizer_lets_every_text_begin() -> None:
    of = tokenizer()
    of.add_special_tokens({"bos_token": "<s>"})
    assert learned(row_of(messages=TALK), of)[0].startswith("### System:")
    start = of.convert_tokens_to_ids("<s>")
    of.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", start)])
    whole, found = learned(row_of(messages=TALK), of)
    assert whole.startswith("<s>### System:")
    assert found == ["4<|im_end|>", "6<|im_end|>"]


def test_a_turn_ends_by_a_special_token_whatever_the_tokenizer_calls_it() -> None:
    of = tokenizer(CHATML.replace("im_end", "turn_end"))
    of.add_tokens(AddedToken("<|turn_end|>", special=True))
    assert of.convert_tokens_to_ids("<|turn_end|>") not in of.all_special_ids
    assert of.decode(sorted(ends(of, in_turns=True))) == "<|im_end|><|turn_end|>"
    assert of.decode(sorted(ends(of, in_turns=False))) == "<|im_end|>"


def test_of_a_template_that_ends_all_turns_once_more_every_answer_is_learned() -> None:
    of = tokenizer(CHATML.replace("im_end", "end") + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}")
    assert learned(row_of(messages=TALK), of)[1] == ["4<|end|>\n", "6<|end|>\n<|im_end|>"]


def test_an_answer_is_found_where_nobody_asks_and_where_a_template_writes_more_before_it() -> None:
    first = [{"role": "assistant", "content": "Hi"}, *TALK[3:]]
    assert learned(row_of(messages=first), tokenizer(CHATML))[1] == ["Hi<|im_end|>", "6<|im_end|>"]
    thinks = CHATML.replace("|im_start|>assistant\n", "|im_start|>assistant\n<think>\n")
    talk = [TALK[1], {"role": "assistant", "content": "end"}]
    assert learned(row_of(messages=talk), tokenizer(thinks))[1] == ["end<|im_end|>"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": TALK[1:3], "tools": [{"type": "function", "function": {"name": "add"}}]},
            "the tools 'add'; tell",
        ),
        (
            {"messages": [TALK[1], {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]}, *TALK[2:3]]},
            "the call of a tool 'add'; write calls into",
        ),
        ({"messages": [TALK[1], {"role": "tool", "content": "sun"}, TALK[2]]}, r"what the tool says \('sun'\)\."),
    ],
)
def test_a_template_that_leaves_out_tools_is_answered_with_the_row_and_advice(row: dict[str, Any], said: str) -> None:
    knows_none = CHATML.replace("m in messages", "m in messages if m['role'] != 'tool'")
    with pytest.raises(AutopeftError, match=rf"row 1 of .*chat template leaves out {said}"):
        rendered(row_of(**row), tokenizer(knows_none))


def test_what_a_tool_says_may_be_written_as_json() -> None:
    of = tokenizer(
        CHATML.replace("+ m['content'] +", "+ (m['content'] | tojson if m['role'] == 'tool' else m['content']) +")
    )
    said = [TALK[1], {"role": "tool", "content": 'it is "4"\n'}, TALK[2]]
    assert learned(row_of(messages=said), of)[1] == ["4<|im_end|>"]


def test_a_completion_follows_its_prompt_as_it_is_and_ends() -> None:
    assert learned(row_of(prompt="2+2=", completion=" 4"), tokenizer(CHATML)) == ("2+2= 4<|im_end|>", [" 4<|im_end|>"])
    ended = row_of(prompt="2+2=", completion=" 4<|im_end|>")
    assert learned(ended, tokenizer()) == ("2+2= 4<|im_end|>", [" 4<|im_end|>"])
    assert learned(row_of(text="Once"), tokenizer()) == ("Once<|im_end|>", ["Once<|im_end|>"])


def test_a_prompts_tokens_are_those_that_a_model_sees_that_goes_on_with_it() -> None:
    of = tokenizer()
    assert len(of("ab")["input_ids"]) == 1
    ((ids, labels),) = tokens([rendered(row_of(prompt="a", completion="b"), of)], of)
    alone = of("a")["input_ids"]
    assert ids[: len(alone)] == alone
    assert of.decode([label for label in labels if label != NO_LABEL]) == "b<|im_end|>"


def test_of_a_prompt_in_messages_the_completion_alone_is_learned() -> None:
    assert learned(row_of(prompt=TALK[:4], completion=TALK[4:]), tokenizer(CHATML))[1] == ["6<|im_end|>"]


def test_tools_and_arguments_reach_the_template() -> None:
    template = CHATML + "{% if tools %}{{ tools[0]['name'] }}{% endif %}{% if loud %}{{ '!!' }}{% endif %}"
    row = row_of(messages=TALK[1:3], tools=[{"name": "add"}], chat_template_kwargs={"loud": True})
    assert learned(row, tokenizer(template))[0].endswith("add!!")


def test_a_template_that_leaves_out_the_system_is_answered_with_the_row_and_advice() -> None:
    deaf = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    with pytest.raises(
        AutopeftError, match=r"row 1 of the train split: .* leaves out what the system says \('Be brief.'\)"
    ):
        rendered(row_of(messages=TALK), tokenizer(deaf))


def test_a_template_that_raises_is_answered_in_its_words() -> None:
    strict = "{{ raise_exception('roles must alternate') }}"
    said = r"row 1 of the train split: the model's chat template does not take it: 'roles must alternate'\."
    with pytest.raises(AutopeftError, match=said):
        rendered(row_of(messages=TALK), tokenizer(strict))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    model_that_goes_on(folder := tmp_path_factory.mktemp("model"), layers=2)
    return load_backbone(str(folder), causal=True)


def rows(pairs: Sequence[tuple[str, str]]) -> Rows:
    frame = pd.DataFrame(pairs, columns=["prompt", "completion"], dtype=object)
    found = examples(frame, guess(frame, {}), "train")
    return Rows(found, Column(np.zeros(len(found))))


def test_long_rows_are_cut_and_those_without_an_answer_left_out_and_both_are_told(backbone: Backbone) -> None:
    task, few = TextGeneration("continuation"), "good fair bad film"
    given = rows([(few, "bad"), (few, " ".join([few] * 4)), (" ".join([few] * 4), "bad")])
    made = task.encode(given, backbone, 12)
    assert made.lengths.tolist() == [6, 12]
    said = "of 3 examples cut after 12 tokens (--max-length): 1; left out, because no answer begins within 12 tokens: 1"
    assert task.lost(given, made) == said
    assert not task.lost(given, task.encode(given, backbone, 60))


def test_a_prompt_that_is_too_long_is_not_gone_on_with_at_another_place(backbone: Backbone) -> None:
    task = TextGeneration("continuation")
    inputs, _ = task.asked("film " * 20)
    with pytest.raises(AutopeftError, match=r"what was asked has 20 tokens, and the model reads 8"):
        task.encoded(inputs, backbone, 8)


def test_rows_of_which_nothing_is_left_to_learn_are_answered(backbone: Backbone) -> None:
    with pytest.raises(AutopeftError, match=r"nothing is left to learn of 1 rows: after 8 tokens \(--max-length\) no"):
        TextGeneration("continuation").encode(rows([("film " * 20, "bad")]), backbone, 8)


def test_a_tokenizer_without_an_end_is_answered(backbone: Backbone) -> None:
    processor = t.PreTrainedTokenizerFast(tokenizer_object=backbone.tokenizer.backend_tokenizer, pad_token="[PAD]")
    endless = Backbone("some", backbone.model, backbone.sites, processor, 1, "", output=backbone.output)
    with pytest.raises(AutopeftError, match=r"the tokenizer of 'some' has no end token, so a model would never learn"):
        TextGeneration("text").encode(rows([("film", "bad")]), endless, 8)


def test_a_token_that_the_model_has_no_logits_for_is_answered(tmp_path: Path) -> None:
    model_that_goes_on(tmp_path / "model", layers=2)
    longer = t.AutoTokenizer.from_pretrained(tmp_path / "model")
    longer.add_tokens(["extraordinary"])
    longer.save_pretrained(tmp_path / "model")
    larger = load_backbone(str(tmp_path / "model"), causal=True)
    with pytest.raises(AutopeftError, match=r"makes the token 'extraordinary' of these texts, its number 31, but the"):
        TextGeneration("continuation").encode(rows([("film", "extraordinary")]), larger, 8)


def test_what_is_read_and_learned_is_shown(backbone: Backbone) -> None:
    task, given = TextGeneration("continuation"), rows([("good film", "bad"), ("fair ", "long film"), ("w1 ", "w2")])
    data: Dataset = task.encode(given, backbone, 60)
    said = task.shown(given, data, backbone)
    assert said[0] == "tokens: 11 of training, 64% of them learned; the longest example has 4"
    assert said[1].startswith("1 of 3 prompts looked at run into their completions without a blank between")
    assert said[2:] == ("example 1, «learned»: good film«bad [SEP]»", "example 2, «learned»: fair«long film [SEP]»")


def test_a_plain_template_is_told_of_and_given_away(backbone: Backbone) -> None:
    task = TextGeneration("conversation")
    given = Rows((asked({"messages": TALK}, "conversation"),), Column(np.zeros(1)))
    assert any("no chat template" in each for each in task.shown(given, task.encode(given, backbone, 60), backbone))
    processor = tokenizer()
    task.equip(processor)
    assert "### Assistant:" in processor.apply_chat_template(TALK[:2], tokenize=False, add_generation_prompt=True)


def test_one_is_asked_or_many(backbone: Backbone) -> None:
    task = TextGeneration("conversation")
    assert task.asked("film")[1]
    assert task.asked(TALK[:2])[1]
    inputs, single = task.asked([TALK[:2], TALK[:2], "film"])
    assert (len(inputs), single) == (3, False)
    assert len(task.encoded(inputs, backbone, 60)[IDS]) == 3


def test_all_that_is_read_is_learned_where_that_is_asked_for_and_prompts_never(backbone: Backbone) -> None:
    task = TextGeneration("continuation").learning("all")
    few = "good fair bad film"
    data = task.encode(rows([(few, "bad"), (" ".join([few] * 4), "bad")]), backbone, 12)
    assert [len(data.targets[row]) for row in range(2)] == [6, 12], "no prompt is too long to be learned"
    assert all((data.targets[row] == data.columns[IDS][row]).all() for row in range(2))
    assert task.described(rows([(few, "bad")])) == (
        "learned: all that is read, up to the end of the last answer (--loss-on all)",
    )
    (asked_for,) = task.asked(few)[0]
    assert (task.encoded([asked_for], backbone, 60)["labels"].values == NO_LABEL).all()


def test_of_a_conversation_all_is_learned_up_to_the_end_of_the_last_answer(backbone: Backbone) -> None:
    task = TextGeneration("conversation", "all")
    given = Rows((asked({"messages": TALK}, "conversation"),), Column(np.zeros(1)))
    data = task.encode(given, backbone, 200)
    ids, labels = data.columns[IDS][0], data.targets[0]
    end = int(np.flatnonzero(ids == backbone.tokenizer.eos_token_id)[-1])
    assert (labels[: end + 1] == ids[: end + 1]).all()
    assert (labels[end + 1 :] == NO_LABEL).all()


def test_what_is_learned_is_part_of_the_task_and_of_what_tells_data_apart() -> None:
    one, other = TextGeneration("text"), TextGeneration("text", "all")
    assert one.identity != other.identity
    assert TextGeneration.from_dict(other.to_dict()) == other
    with pytest.raises(ValueError, match="loss_on is 'some', not one of completion, all"):
        TextGeneration.from_dict({"name": "text-generation", "form": "text", "loss_on": "some"})
