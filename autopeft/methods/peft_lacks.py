"""What peft's methods have not that a task or a search may ask for, by their configuration, and why."""

from collections.abc import Mapping

import peft

_CAUSAL = {"LilyConfig": "its router weighs by an average over all tokens of a batch, also later ones"}
_QUANTISED = {"GloraConfig": "peft's GLoRA goes on plain linear maps only"}
_PACKABLE = "its prompt stands before a row once, and not before each of the examples in it"
_CROSSED = "its prompt stands before what an encoder reads, and a decoder's states have no places for it"
_PROMPT = "what peft's {} puts before texts are keys and values, no embeddings; prefix_tuning does the same"
_IN_CACHE = ("PrefixTuningConfig", "CartridgeConfig")


def lacks_of(config_class: str) -> Mapping[str, str]:
    """By the name of the capability."""
    lacks = {"causal": _CAUSAL[config_class]} if config_class in _CAUSAL else {}
    if config_class in _IN_CACHE:
        lacks["prompt"] = _PROMPT.format(config_class.removesuffix("Config"))
    if config_class in _QUANTISED:
        lacks["quantised"] = _QUANTISED[config_class]
    return lacks | ({"packable": _PACKABLE, "crossed": _CROSSED} if prompts(config_class) else {})


def prompts(config_class: str) -> bool:
    """Whether it puts prompts before texts, by a wrapper around the model."""
    return issubclass(getattr(peft, config_class), peft.PromptLearningConfig)
