"""What a model of texts can read: how many tokens, and which. Of images there is no such limit to tell."""

from torch import nn
from transformers import PretrainedConfig

from autopeft.backbone.inputs import reads
from autopeft.errors import CannotAttach


def positions_of(model: nn.Module) -> int | None:
    """The longest sequence that the model has positions for; None where there is no limit."""
    config = getattr(model, "config", None)
    if not isinstance(config, PretrainedConfig):
        return None
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    for path, module in model.named_modules():
        if (
            limit is not None
            and "position" in path
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        ):
            limit = module.num_embeddings - module.padding_idx - 1
    return limit


def require_positions(model: nn.Module, length: int, prepended: int) -> None:
    """Raises CannotAttach where a text with what a method prepends to it is longer than the model can read."""
    positions = positions_of(model)
    if positions is not None and length + prepended > positions:
        raise CannotAttach(
            f"{length + prepended} tokens ({prepended} of them prepended by the method) are more than the {positions} "
            f"positions of {type(model).__name__}."
        )


def types_of(model: nn.Module) -> int:
    """How many types of tokens the model may tell apart, such as the first and the second of two texts."""
    return int(getattr(getattr(model, "config", None), "type_vocab_size", 2))


def vocabulary_of(model: nn.Module) -> int | None:
    """How many tokens the model has embeddings for; None where it does not tell, or reads no tokens."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)() if reads(model) == "input_ids" else None
    return embeddings.weight.shape[0] if embeddings is not None else None
