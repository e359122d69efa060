"""Language models as people ask them: texts after texts, turns after turns, in Python and in a terminal."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from click.testing import CliRunner

import autopeft
from autopeft.artifacts import Description, save_artifact
from autopeft.backbone.load import load_backbone
from autopeft.cli import main
from autopeft.errors import AutopeftError
from autopeft.methods.attached import attach
from autopeft.space.candidate import Candidate, Part, Training
from autopeft.tasks.text_generation import TextGeneration
from tests.saved import saved
from tests.tasks.examples import model_that_goes_on
from tests.tasks.test_text_generation import CHATML
from tests.trained import artifact

USER = {"role": "user", "content": "film bad"}


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A winner of conversations, with prompt tuning; a turn ends by another token than a text."""
    folder = tmp_path_factory.mktemp("talker")
    model_that_goes_on(folder / "model", layers=2)
    tokenizer = t.AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "[CLS]").replace("<|im_start|>", "")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[CLS]"]})
    tokenizer.save_pretrained(folder / "model")
    backbone = load_backbone(str(folder / "model"), causal=True)
    task = TextGeneration("conversation")
    description = Description(str(folder / "model"), task, 64, backbone.fingerprint, precision="float32")
    candidate = Candidate("prompt_tuning", (Part("prompt_tuning"),), Training())
    with attach(backbone.model, "prompt_tuning", backbone.sites) as attached, torch.no_grad():
        for tensor in attached.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(4)))
        return save_artifact(folder / "winner", attached, task.new_head(32, Training()), description, candidate)


def test_a_turn_ends_where_the_chat_template_ends_one(talker: Path) -> None:
    loaded = autopeft.load(talker)
    tokenizer: Any = loaded.backbone.tokenizer
    named = {"[CLS]", "[SEP]"}
    assert loaded.task.ends(loaded.backbone) == {tokenizer.convert_tokens_to_ids(each) for each in named}
    assert TextGeneration("continuation").ends(loaded.backbone) == {tokenizer.eos_token_id}


def test_a_text_a_list_of_messages_and_a_row_are_the_same_prompt(talker: Path) -> None:
    loaded = autopeft.load(talker)
    answer = loaded.generate("film bad", max_new_tokens=6)
    assert answer
    row = {"messages": [USER, {"role": "assistant", "content": "good"}]}
    assert loaded.generate([USER], max_new_tokens=6) == answer
    assert loaded.generate([[USER], row, "film"], max_new_tokens=6)[:2] == [answer, answer]
    assert loaded.generate([], max_new_tokens=6) == []
    later = [USER, {"role": "assistant", "content": "good"}, {"role": "user", "content": "film w3"}]
    asked = loaded.task.prompts(loaded.task.asked(later)[0], loaded.backbone)[0]
    assert loaded.backbone.tokenizer.decode(asked).split()[-7:] == [
        *("good", "[CLS]"),
        *("[UNK]", "film", "w3", "[CLS]"),
        "[UNK]",
    ]


def test_one_talks_to_it_in_a_terminal_turn_by_turn(talker: Path) -> None:
    loaded = autopeft.load(talker)
    first = loaded.generate([USER], max_new_tokens=5)
    assert loaded.generate([USER, {"role": "assistant", "content": ""}, USER]), "an answer before may have been empty"
    turns = [USER, {"role": "assistant", "content": first}, {"role": "user", "content": "film w3"}]
    second = loaded.generate(turns, max_new_tokens=5)
    asked = ["chat", str(talker), "--max-new-tokens", "5"]
    told = CliRunner().invoke(main, asked, input=f"film bad\nfilm w3\n{'film ' * 70}\nfilm bad\n\nnot heard\n")
    assert told.exit_code == 0, told.output
    assert told.stdout == f"{first}\n{second}\n{first}\n", "the conversation was begun anew"
    assert "the model reads" in told.stderr
    assert "The conversation begins anew." in told.stderr


def test_a_model_that_writes_nothing_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "winner"
    artifact(folder, saved(tmp_path / "backbone"), ["lora"])
    with pytest.raises(AutopeftError, match="a model of 'text-classification' answers by `predict`"):
        autopeft.load(folder).generate("w7")
    told = CliRunner().invoke(main, ["chat", str(folder)], input="w7\n")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "it writes no texts" in told.stderr
