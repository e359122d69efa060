"""peft's configurations from plain values: every field by its own name, nested configurations as mappings."""

import copy
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import peft

from autopeft.backbone.inputs import named, reads
from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach

WRAPPED = "base_model.model."
"""What names of a method's weights in peft's files begin with, before those of the model's modules."""


@cache
def fields_of(config_class: str) -> tuple[str, ...]:
    """The fields of a method; none of those that say of every method what model it is for, and for what."""
    common = {each.name for each in fields(peft.PeftConfig)}
    return tuple(each.name for each in fields(getattr(peft, config_class)) if each.name not in common)


def new_config(config_class: str, values: Mapping[str, Any]) -> Any:
    """A configuration of these values. Raises what peft raises."""
    kind = getattr(peft, config_class)
    hints = typing.get_type_hints(kind)
    return kind(**{name: _nested(hints.get(name), copy.deepcopy(value)) for name, value in values.items()})


def require_possible(config_class: str, values: Mapping[str, Any]) -> None:
    """Raises AutopeftError in peft's words where no configuration can be made of these values."""
    try:
        new_config(config_class, values)
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise AutopeftError(f"peft refuses {config_class}: {reason}.") from error


def _nested(hint: Any, value: Any) -> Any:
    """A mapping as the configuration that the field's type names."""
    if isinstance(value, Mapping):
        for kind in (hint, *typing.get_args(hint)):
            if isinstance(kind, type) and is_dataclass(kind):
                return kind(**value)
    return value


def fit_prompt(config: peft.PromptLearningConfig, model: Any, sites: Sites) -> None:
    """Says what peft would guess from a model's config, wrongly where embeddings are narrower than layers."""
    if reads(model) != "input_ids":
        raise CannotAttach(
            f"prompts stand before the embeddings of tokens, and {sites.architecture} reads {named(model)}: prefixes "
            "(prefix_tuning, p_tuning_v2) do the same in every layer."
        )
    embeddings = model.get_input_embeddings()
    config.token_dim = config.token_dim or embeddings.embedding_dim
    config.num_layers = config.num_layers or len(sites.layers)
    config.num_attention_heads = config.num_attention_heads or model.config.num_attention_heads
