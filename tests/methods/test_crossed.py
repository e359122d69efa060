"""The capability `crossed`, over every card: a method works on an encoder and the decoder that looks at it together."""

import pytest
import torch

from autopeft.backbone.load import without_head
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach, attach_saved, parts_of, require_capable
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.training.generation import Writer
from autopeft.training.precision import FLOAT32
from tests.crossed import CONFIGS, whole
from tests.methods.by_hand import disturbed
from tests.sampled import sampled
from tests.tiny import batch

NAMES = (*load_cards(), *load_hybrids(load_cards()))
PROMPTS = ([7, 8, 9], [20, 21, 22, 23, 24, 25, 26, 27], [40])
CASES = sampled(CONFIGS, NAMES, every=6)


def asked(changed=False):
    ids = torch.randint(5, 90, (3, 7), generator=torch.Generator().manual_seed(2))
    if changed:
        ids[:, -2:] = 7
    return {**batch(), "decoder_input_ids": ids, "use_cache": False}


def states(attached, **changed):
    with torch.no_grad():
        return attached.model(**asked(**changed)).last_hidden_state


@pytest.mark.parametrize(("architecture", "name"), CASES)
def test_it_changes_what_is_written_looks_at_no_later_token_and_writes_the_same_with_a_cache_or_says_why_not(
    architecture, name, tmp_path
):
    meant = tuple(parts_of(method(name)))
    if any("crossed" in part.method.lacks for part in meant):
        with pytest.raises(CannotAttach, match=r"is not crossed, as this task needs it: \w+"):
            require_capable(meant, ["crossed"])
        return
    model = whole(architecture, layers=6 if name == "s4" else 2)
    inner = without_head(model)
    before = {name: each.clone() for name, each in (*inner.named_parameters(), *inner.named_buffers())}
    with torch.no_grad():
        bare = inner(**asked()).last_hidden_state
    try:
        attached = disturbed(attach(inner, method(name)))
    except CannotAttach as refusal:
        pytest.skip(f"refused: {refusal}")
    lacks = {need for part in attached.chosen for need in part.method.lacks}
    out = states(attached)
    assert not torch.allclose(out, bare, atol=1e-4)
    assert torch.allclose(out[:, :-2], states(attached, changed=True)[:, :-2], atol=1e-5) == ("causal" not in lacks)
    attached.model(**asked()).last_hidden_state.square().mean().backward()
    assert any(each.grad is not None and each.grad.any() for each in attached.parameters())
    if "causal" not in lacks:
        write = Writer(model, frozenset(), 0, attached, FLOAT32)
        together = write(PROMPTS, 6, cached=True)
        assert together == write(PROMPTS, 6, cached=False) == [write([each], 6)[0] for each in PROMPTS]
    attached.settle()
    settled = states(attached)
    attached.save(tmp_path)
    attached.detach()
    assert all(torch.equal(before[each], now) for each, now in inner.named_parameters())
    again = attach_saved(inner, tmp_path)
    assert torch.allclose(states(again), settled, atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_sites_are_those_of_both_stacks_and_of_the_decoder_s_look_at_the_encoder(architecture):
    inner = without_head(whole(architecture))
    for sites, expected in ((("cross.q", "cross.v"), 2 * 2), (("q", "v"), 2 * 4), (("all-linear",), 2 * 6 + 2 * 10)):
        with attach(inner, method("lora", sites=sites)) as attached:
            assert len(list(attached.parameters())) == 2 * expected
    with attach(inner, method("lora", sites=["q"], layers="last 2")) as attached:
        assert all("decoder" in each.name for each in attached.tensors())
