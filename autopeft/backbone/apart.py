"""Whether a model keeps several examples of one row apart, which is said to it by positions that begin again.

transformers makes such masks where a model is given positions and no mask of padding, and where its code asks for them:
OPT's and Bloom's does not. So it is tried: an example has the same states wherever it stands, and whatever before it.
"""

import inspect

import torch
from torch import nn

from autopeft.backbone.inputs import bare
from autopeft.backbone.limits import vocabulary_of

_SHORT, _LONG = 5, 8
"""Tokens of two examples."""
_TOLERANCE = {torch.float32: 1e-4}
_OF_LESS = 2e-2
"""How far states may lie apart by roundings, as a fraction of the largest: in fp32, and in fewer digits."""


def why_not_apart(model: nn.Module) -> str:
    """Why it does not; empty where it does."""
    reader = bare(model)
    takes = inspect.signature(reader.forward).parameters
    if "position_ids" not in takes:
        return "it takes no positions"
    device, dtype = next(reader.parameters()).device, next(reader.parameters()).dtype
    generator = torch.Generator().manual_seed(0)
    tokens = vocabulary_of(reader) or 2
    one, other = (torch.randint(tokens, (length,), generator=generator) for length in (_SHORT, _LONG))
    rows = torch.stack([torch.cat([one, other]), torch.cat([other, one])]).to(device)
    short, long = torch.arange(_SHORT), torch.arange(_LONG)
    positions = torch.stack([torch.cat([short, long]), torch.cat([long, short])]).to(device)
    without = {"use_cache": False} if "use_cache" in takes else {}
    with torch.inference_mode():
        states = reader(input_ids=rows, position_ids=positions, **without).last_hidden_state.float()
    pairs = (states[0, :_SHORT], states[1, _LONG:]), (states[0, _SHORT:], states[1, :_LONG])
    off = max(float((first - second).abs().max()) for first, second in pairs)
    if off > _TOLERANCE.get(dtype, _OF_LESS) * float(states.abs().max()):
        return "what it makes of an example changes with those before it in a row"
    return ""
