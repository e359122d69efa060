"""How a language model makes logits of its last states: its own output embedding, which a task's head borrows.

Tied to the input embedding or not, with a bias or without, its logits may be scaled (Granite, Cohere) and softly capped
(Gemma). Which of these a model does is read off its configuration, and held once against the model's own logits: a
model that does anything else is refused.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from autopeft.backbone.held import HALF
from autopeft.backbone.inputs import is_crossed, written
from autopeft.errors import AutopeftError

_LENGTH = 12
_APART, _OF_HALVES = 1e-3, 2e-2
"""By how much logits may differ, as a fraction of the largest of them, or of 1; and where the model makes them in half
a number's width, which rounds what it caps and scales.
"""


class OutputEmbedding(nn.Module):
    """States (…, width) -> logits (…, vocabulary) in fp32."""

    shift: Tensor | None

    def __init__(
        self, linear: nn.Module, scale: float = 1.0, cap: float | None = None, shift: Tensor | None = None
    ) -> None:
        """`shift` (1, vocabulary) is what a model adds to its logits that is no bias of the linear map (BART)."""
        super().__init__()
        self.linear = linear
        self.scale = scale
        """Logits are multiplied by it."""
        self.cap = cap
        """No logit is beyond it: cap * tanh(logit / cap)."""
        self.register_buffer("shift", shift)

    @property
    def weight(self) -> Tensor:
        """(vocabulary, width)."""
        weight = self.linear.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """(vocabulary,)."""
        own: Tensor | None = getattr(self.linear, "bias", None)
        return own if self.shift is None else self.shift[0]

    @property
    def tokens(self) -> int:
        """That there are logits for."""
        return int(self.weight.shape[0])

    def forward(self, states: Tensor) -> Tensor:
        logits = self.linear(states).float()
        if self.shift is not None:
            logits = logits + self.shift[0]
        logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def output_of(name: str, whole: Any) -> OutputEmbedding:
    """The output embedding of a model with its head. Raises AutopeftError where it has none that is a linear map."""
    linear, config = whole.get_output_embeddings(), whole.config.get_text_config()
    alone = whole.base_model is whole and not is_crossed(whole)
    if not isinstance(linear, nn.Linear) or alone:
        raise AutopeftError(
            f"'{name}' makes its logits by no linear map of its last states that transformers names "
            f"({type(whole).__name__}): it cannot be trained as a language model."
        )
    return OutputEmbedding(linear, *_said(config), getattr(whole, "final_logits_bias", None))


def require_causal(name: str, whole: Any, output: OutputEmbedding, inner: Any) -> None:
    """Raises AutopeftError for a model that looks at later tokens, or whose logits are not those of its output
    embedding, of the states of its `inner` part; its weights must be there.
    """
    kind, few = type(whole).__name__, min(_LENGTH, output.tokens)
    ids = torch.arange(few).unsqueeze(0)
    other = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
    with torch.no_grad():
        own = whole(**written(whole, ids), use_cache=False).logits.float()
        states, changed = (inner(**written(inner, each), use_cache=False).last_hidden_state for each in (ids, other))
        ours = output(states)
    apart = _OF_HALVES if output.weight.dtype in HALF else _APART
    most = max(1.0, float(states.abs().max()))
    if float((states - changed)[:, :-1].abs().max()) > _APART * most:
        raise AutopeftError(
            f"'{name}' is no causal model: what {kind} gives for a token depends on later ones, so it cannot learn to "
            "go on with a text. Give a decoder (GPT-2, Llama, Qwen, Gemma …)."
        )
    if own.shape != ours.shape or not float((own - ours).abs().max()) <= apart * max(1.0, float(own.abs().max())):
        raise AutopeftError(
            f"{kind} of '{name}' makes its logits in another way than by its output embedding, scaled or softly capped "
            "as its configuration says: the loss that would be trained is not the model's own."
        )


def _said(config: PretrainedConfig) -> tuple[float, float | None]:
    """Scale and cap, as configurations call them."""
    scale = _number(config, "logit_scale") or 1.0
    scale /= _number(config, "logits_scaling") or 1.0
    scale *= _number(config, "lm_head_multiplier") or 1.0
    if getattr(config, "scale_decoder_outputs", False):
        scale *= float(config.d_model**-0.5)
    return scale, _number(config, "final_logit_softcapping")


def _number(config: PretrainedConfig, name: str) -> float | None:
    """None also where something else is said (MPT: 'inv_sqrt_d_model'): the model's own logits will tell."""
    said = getattr(config, name, None)
    return float(said) if isinstance(said, int | float) else None
