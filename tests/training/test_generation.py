"""Whatever is attached, a model writes what its own last states say, token for token: with and without a cache, alone
and beside others, saved and loaded, and merged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import Tensor

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import Attached, attach, attach_saved, parts_of
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.space import load_space
from autopeft.training.generation import Writer
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, VOCABULARY, WIDTH

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "head_dim": 16,
}
WHOLE = {
    "llama": CONFIGS["llama"],
    "gpt2": CONFIGS["gpt2"],
    "qwen3": lambda: t.Qwen3Config(**_SHAPE),
    "gemma3": lambda: t.Gemma3TextConfig(**_SHAPE, sliding_window=8),
}
PROMPTS = ([7, 8, 9], [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31], [40])
MOST = 6
UNDECIDED = 1e-4
"""Two logits that are no further apart are equal but for rounding."""
SPACE = load_space("default")
TOGETHER = {
    "prompt_tuning and lora": ("prompt_tuning", "lora"),
    "prefix_tuning and p_tuning": ("prefix_tuning", "p_tuning"),
    "p_tuning_v2, adapter and ia3": ("p_tuning_v2", "adapter", "ia3"),
}
"""Mixtures, as a search would draw them."""
NAMES = (*SPACE.methods, *load_hybrids(load_cards()), *TOGETHER)
OFTEN = {"llama": NAMES, "gemma3": ("ladder", "prefix_tuning", "prompt_tuning"), "gpt2": ("p_tuning", "ladder")}
"""What is tried every time; `make grids` tries all on all."""


def whole(architecture: str, layers: int = 2) -> Any:
    """A language model whose likeliest tokens vary."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = WHOLE[architecture]()
        config.num_hidden_layers = layers
        config.eos_token_id = config.bos_token_id = None
        config.tie_word_embeddings = False
        if architecture == "gemma3":
            config.layer_types = [("sliding_attention", "full_attention")[number % 2] for number in range(layers)]
        model: Any = t.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def writing(model: Any, attached: Attached | None = None, ends: Sequence[int] = ()) -> Writer:
    return Writer(model, frozenset(ends), 0, attached, "float32")


@torch.no_grad()
def logits(model: Any, attached: Attached, ids: Sequence[int]) -> Tensor:
    """Of the next token, as training sees them: the text is read whole, and nothing is padded."""
    given = torch.tensor([[*ids]])
    states = attached.model(input_ids=given, attention_mask=torch.ones_like(given), use_cache=False).last_hidden_state
    found: Tensor = model.get_output_embeddings()(states[0, -1])
    return found


def require_likeliest(model: Any, attached: Attached, found: Sequence[Sequence[int]], expected: Sequence[Any]) -> None:
    """Equal to the token, up to the first that was undecided."""
    for prompt, row, other in zip(PROMPTS, found, expected, strict=True):
        assert len(row) == MOST
        for at, (one, two) in enumerate(zip(row, other, strict=True)):
            if one != two:
                best, next_best = logits(model, attached, [*prompt, *row[:at]]).topk(2).values.tolist()
                assert best - next_best < UNDECIDED
                break


def cases() -> list[Any]:
    return [
        pytest.param(architecture, name, marks=() if name in OFTEN.get(architecture, ()) else pytest.mark.grid)
        for architecture in WHOLE
        for name in NAMES
    ]


@pytest.mark.parametrize(("architecture", "name"), cases())
def test_a_method_writes_what_its_states_say_however_it_is_asked(architecture: str, name: str, tmp_path: Path) -> None:
    what = [method(each) for each in TOGETHER.get(name, (name,))]
    if any("causal" in part.method.lacks for part in parts_of(what)):
        pytest.skip("it is not causal")
    layers = 6 if name == "s4" else 2
    model = whole(architecture, layers)
    bare = writing(model)(PROMPTS, MOST)
    try:
        attached = disturbed(attach(model.base_model, what))
    except CannotAttach as refusal:
        pytest.skip(f"refused: {refusal}")
    write = writing(model, attached)
    by_hand = []
    for prompt in PROMPTS:
        row: list[int] = []
        for _ in range(MOST):
            row.append(int(logits(model, attached, [*prompt, *row]).argmax()))
        by_hand.append(row)
    assert by_hand != bare, "what is attached has something to say"
    found = write(PROMPTS, MOST)
    require_likeliest(model, attached, found, by_hand)
    require_likeliest(model, attached, write(PROMPTS, MOST, cached=False), found)
    require_likeliest(model, attached, [write([prompt], MOST)[0] for prompt in PROMPTS], found)
    attached.save(tmp_path)
    other = whole(architecture, layers)
    with attach_saved(other.base_model, tmp_path) as loaded:
        require_likeliest(other, loaded, writing(other, loaded)(PROMPTS, MOST), found)
        if all(part.mergeable for part in loaded.parts):
            loaded.merge()
            require_likeliest(model, attached, writing(other)(PROMPTS, MOST), found)
    attached.detach()
    assert writing(model)(PROMPTS, MOST) == bare


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return whole("gpt2")


def test_an_answer_is_over_at_an_end_token_and_does_not_hold_it(gpt2: Any) -> None:
    found = writing(gpt2)(PROMPTS, MOST)
    end = found[1][3]
    cut = [row[: row.index(end)] if end in row else row for row in found]
    assert writing(gpt2, ends=[end])(PROMPTS, MOST) == cut


def test_a_prompt_that_has_room_left_is_gone_on_with_after_the_longest_has_none(gpt2: Any) -> None:
    prompts = [[7] * 60, [7, 8, 9], [9, 8] * 28]
    alone = [writing(gpt2)([prompt], 20)[0] for prompt in prompts]
    assert [len(row) for row in alone] == [5, 20, 9]
    assert writing(gpt2)(prompts, 20) == alone
    with attach(gpt2.base_model, "prompt_tuning") as attached:
        limit = writing(gpt2, attached).longest
        assert limit == 64 - attached.prepended
        with pytest.raises(AutopeftError, match=f"a prompt has 60 tokens, and the model reads {limit}"):
            writing(gpt2, attached)(prompts, 20)


def test_what_a_model_would_rather_have_is_left_aside_and_there_again_afterwards(gpt2: Any) -> None:
    found = writing(gpt2)(PROMPTS, MOST)
    own = t.GenerationConfig(do_sample=True, repetition_penalty=9.0, suppress_tokens=found[0], max_length=5)
    gpt2.generation_config, gpt2.training = own, True
    try:
        assert writing(gpt2)(PROMPTS, MOST) == found
        assert gpt2.generation_config is own
        assert gpt2.training
    finally:
        gpt2.generation_config = t.GenerationConfig()
        gpt2.eval()


def test_without_a_capability_texts_are_read_whole_or_not_written(gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = []
    with attach(gpt2.base_model, "lora") as attached:
        handle = gpt2.base_model.register_forward_pre_hook(
            lambda _, __, named: caches.append(named["use_cache"]), with_kwargs=True
        )
        writing(gpt2, attached)(PROMPTS, 2)
        assert caches == [True, True]
        monkeypatch.setattr(type(attached.chosen[0].method), "lacks", {"cached": "it counts the tokens that it reads"})
        writing(gpt2, attached)(PROMPTS, 2)
        assert caches[2:] == [False, False]
        monkeypatch.setattr(type(attached.chosen[0].method), "lacks", {"prompt": "nobody knows what it puts there"})
        with pytest.raises(AutopeftError, match="no text can be written: nobody knows what it puts there"):
            writing(gpt2, attached)(PROMPTS, 2)
        handle.remove()


def test_writing_ends_where_somebody_who_is_asked_says_so_and_leaves_the_model_as_it_was() -> None:
    class Enough(Exception):
        pass

    asked = []

    def ask() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise Enough

    model = whole("llama")
    own = model.generation_config
    with pytest.raises(Enough):
        Writer(model, frozenset(), 0, ask=ask)(PROMPTS, 10_000_000)
    assert len(asked) == 4
    assert model.generation_config is own
    assert Writer(model, frozenset(), 0, ask=lambda: None)(PROMPTS, MOST) == Writer(model, frozenset(), 0)(
        PROMPTS, MOST
    )
