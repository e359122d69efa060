"""AdaLoRA against its formula, and its budget over a training of any length."""

import peft
import pytest
import torch

from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import batch, tiny

SITES = ("query", "value")


def layers(model):
    return [getattr(each.attention.self, site) for each in model.encoder.layer for site in SITES]


def active(model):
    """Ranks that are not switched off, over all projections."""
    return sum(int((each.lora_E["autopeft0"] != 0).sum()) for each in layers(model))


def penalty(attached):
    logits = torch.zeros(1, 2)
    return attached.extra_loss(logits, lambda: logits, torch.dist)


def trained(model, attached, steps):
    """Trains for `steps`; yields the number of active ranks after each."""
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05, weight_decay=0.1)
    for step in range(1, steps + 1):
        states = attached.model(**batch(seed=step)).last_hidden_state
        loss = (states - torch.randn(states.shape, generator=torch.Generator().manual_seed(step))).pow(2).mean()
        (loss + penalty(attached)).backward()
        optimizer.step()
        attached.stepped(step, steps)
        optimizer.zero_grad(set_to_none=True)
        yield active(model)


def test_a_projection_computes_w_x_plus_b_plus_alpha_over_rank_times_p_lambda_q_x():
    model = tiny("bert")
    disturbed(attach(model, method("adalora", initial_rank=6, rank=2, alpha=12)))
    query, plain = layers(model)[0], layers(tiny("bert"))[0]
    x = torch.randn(2, 3, 48)
    with torch.no_grad():
        p, singular, q = query.lora_B["autopeft0"], query.lora_E["autopeft0"], query.lora_A["autopeft0"]
        change = 12 / 6 * p @ torch.diag(singular[:, 0]) @ q
        assert torch.allclose(query(x), plain(x) + x @ change.T, atol=1e-4)


def test_the_extra_loss_is_the_mean_distance_of_the_factors_from_orthonormal_ones():
    model = tiny("bert")
    attached = disturbed(attach(model, method("adalora", orthogonality=0.3)))
    distances = []
    with torch.no_grad():
        for each in layers(model):
            a, b = each.lora_A["autopeft0"], each.lora_B["autopeft0"]
            distances += [(a @ a.T - torch.eye(12)).pow(2).sum().sqrt(), (b.T @ b - torch.eye(12)).pow(2).sum().sqrt()]
        assert torch.allclose(penalty(attached), 0.3 * torch.stack(distances).mean())
        for each in layers(model):
            torch.nn.init.orthogonal_(each.lora_A["autopeft0"])
            torch.nn.init.orthogonal_(each.lora_B["autopeft0"])
        assert penalty(attached) < 1e-5
    assert penalty(attach(tiny("bert"), "lora")) is None


@pytest.mark.parametrize("steps", [2, 3, 7, 40])
def test_the_budget_falls_from_the_initial_to_the_wanted_rank_whatever_the_number_of_steps(steps):
    model = tiny("bert")
    attached = attach(model, method("adalora", initial_rank=6, rank=2))
    ranks = list(trained(model, attached, steps))
    assert ranks[-1] == 2 * 4
    assert max(ranks) <= 6 * 4
    if steps == 40:
        assert ranks[:4] == [6 * 4] * 4
        assert set(ranks[20:]) == {2 * 4}, "the second half trains what has remained"


def test_a_single_step_takes_no_rank_away():
    model = tiny("bert")
    attached = attach(model, method("adalora", initial_rank=6, rank=2))
    assert list(trained(model, attached, 1)) == [6 * 4]


def test_a_second_training_begins_its_schedule_anew():
    model = tiny("bert")
    attached = attach(model, method("adalora", initial_rank=6, rank=2))
    assert list(trained(model, attached, 10))[-1] == 8
    ranks = list(trained(model, attached, 40))
    assert ranks[2] > 8
    assert ranks[-1] == 8


def test_what_was_pruned_is_saved_loaded_merged_and_read_by_peft(tmp_path):
    model = tiny("bert")
    attached = attach(model, method("adalora", initial_rank=6, rank=2))
    list(trained(model, attached, 9))
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        attached.save(tmp_path)
        again = attach_saved(tiny("bert"), tmp_path)
        assert torch.equal(again.model(**batch()).last_hidden_state, expected)
        assert torch.equal(attached.load(tmp_path).model(**batch()).last_hidden_state, expected)
        theirs = peft.PeftModel.from_pretrained(tiny("bert"), str(tmp_path)).eval()
        assert torch.allclose(theirs(**batch()).last_hidden_state, expected, atol=1e-6)
        assert torch.allclose(attached.merge()(**batch()).last_hidden_state, expected, atol=1e-5)


def test_singular_values_are_not_decayed_and_factors_are():
    decays = {each.name: each.decay for each in attach(tiny("bert"), "adalora").tensors()}
    assert all(decay == ("lora_E" not in name) for name, decay in decays.items())


def test_a_rank_that_is_not_below_the_initial_one_is_refused():
    model = tiny("bert")
    with pytest.raises(CannotAttach, match="a rank of 12 is to remain of 12: begin with more"):
        attach(model, method("adalora", rank=12))
    assert not any("lora" in name for name, _ in model.named_modules())
