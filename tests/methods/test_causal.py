"""The capability `causal`, over every card on tiny decoders: a changed later token changes no earlier state."""

import pytest
import torch

from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach, require_capable
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from autopeft.space.space import load_space
from autopeft.tasks.text_classification import TextClassification
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

CARDS = load_cards()


class Ordered(TextClassification):
    """A task that needs states which do not depend on later tokens."""

    needs = ("causal",)


def states(attached, ids):
    with torch.no_grad():
        return attached.model(input_ids=ids).last_hidden_state[:, attached.prepended :]


@pytest.mark.parametrize("name", [*CARDS, *load_hybrids(CARDS)])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_changed_later_token_changes_no_earlier_state_unless_a_method_says_so(name, architecture):
    try:
        attached = disturbed(attach(tiny(architecture, layers=6 if name == "s4" else 2), method(name)))
    except CannotAttach as refusal:
        pytest.skip(f"refused: {refusal}")
    ids = batch(rows=1)["input_ids"]
    changed = ids.clone()
    changed[:, -3:] = 7
    one, other = (states(attached, each)[:, :-3] for each in (ids, changed))
    lacks = any("causal" in part.method.lacks for part in attached.chosen)
    assert torch.allclose(one, other, atol=1e-5) != lacks


def test_methods_that_lack_what_a_task_needs_are_refused_with_the_reason():
    with pytest.raises(CannotAttach, match=r"'unipelt' is not causal, as this task needs it: its gates look at all"):
        require_capable([method("lora"), method("unipelt")], Ordered.needs)
    require_capable([method("unipelt")], TextClassification.needs)
    predictor = Predictor(load_skeleton(CONFIGS["llama"]()), CARDS, Ordered.sized(2), 16)
    space = load_space("everything").only(("lily", "lora", "unipelt", "adapter")).fitted(predictor.refusal)
    assert space.methods == ("adapter", "lora")
    assert "average over all tokens" in space.refused["lily"]
