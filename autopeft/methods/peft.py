"""Every method that HF peft implements: autopeft configures and injects it, and takes it off again.

A card's `config` says what each field of the peft config receives; `$rank` stands for the setting `rank`. Sites become
full module paths: `$sites` stands for the places of the sites in the setting `sites`, `$sites[ffn.down]` for those
at one site. On a fused projection (GPT-2's `c_attn`) peft adapts the whole fused weight, whichever of q, k and v is
asked for. Two methods of one kind (LoRA twice) go on one model, but not on one module.

A schedule that a config gives in steps of its `total_step` (AdaLoRA's) is stretched to the real number of steps.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn

from autopeft.backbone.sites import Sites
from autopeft.errors import AutopeftError, CannotAttach, CannotMerge
from autopeft.methods.base import Attachment, Method, Stage

_HOOK_HANDLES = {"_require_grads_hooks", "_require_grads_hook"}
"""Attributes where transformers keeps the handles of its hooks on a model's embeddings."""
_REFUSALS = (
    AssertionError,
    AttributeError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
_SAID_IN_VAIN = (
    r".*modify a model with PEFT for a second time.*",
    r".*Already found a `peft_config` attribute.*",
    r".*`is_gradient_checkpointing` is deprecated.*",
    r"Specified to not (save|load) vera_A and vera_B.*",
)
"""Warnings of peft about what is meant so."""
_REFERENCE = re.compile(r"\$(\w+)(?:\[([\w.]+)\])?")


@dataclass(frozen=True)
class PeftMethod(Method):
    """One peft config class with its fields filled from settings and sites."""

    config_class: str
    """Name of the config class in `peft`, such as LoraConfig."""
    config: Mapping[str, Any]
    """Field of that class -> value, or a reference to a setting."""
    settings: Mapping[str, Any]
    """Settings by name."""

    @property
    def stage(self) -> Stage:  # type: ignore[override]
        wraps = issubclass(getattr(peft, self.config_class), peft.PromptLearningConfig)
        return Stage.WRAP if wraps else Stage.REPLACE

    def attach(self, model: nn.Module, sites: Sites) -> "PeftAttachment":
        fields = {name: self._filled(value, sites) for name, value in self.config.items()}
        with _told_plainly(f"peft refuses {self.config_class}"), _quiet():
            config = getattr(peft, self.config_class)(**fields)
            if config.is_prompt_learning:
                _fit_prompt(config, model, sites)
            return PeftAttachment(model, config)

    def _filled(self, value: Any, sites: Sites) -> Any:
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        setting = self.settings[match[1]]
        if match[1] != "sites":
            return list(setting) if isinstance(setting, tuple) else setting
        layers = self.settings.get("layers", "all")
        chosen = [name for name in setting if match[2] in (None, name)]
        return sorted({place.path for name in chosen for place in sites.at(name, layers)})


class PeftAttachment(Attachment):
    """A peft method on a model: the model's modules that peft replaced are put back on `detach`."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        if isinstance(model, peft.PeftModel):
            raise CannotAttach("prompt methods cannot be combined with one another: each wraps the bare model.")
        self._bare = model
        self._modules_before = dict(model.named_modules())
        self._attributes_before = dict(vars(model))
        hooks_before = dict(_hooks_on_input(model))
        self._input_hooks: set[int] = set()
        self._name = f"autopeft{sum(1 for module in model.modules() if isinstance(module, BaseTunerLayer))}"
        try:
            config.inference_mode = False
            self._peft = peft.get_peft_model(model, config, adapter_name=self._name)
            self._input_hooks = _hooks_on_input(model).keys() - hooks_before.keys()
            _activate_all(model)
            self._allocates = hasattr(self._peft.base_model, "update_and_allocate")
            if self._allocates and not config.target_r < config.init_r:
                raise CannotAttach(f"a rank of {config.target_r} is to remain of {config.init_r}: begin with more.")
            if getattr(config, "module_dropout", None) == 0:
                self._never_drop()
        except BaseException:
            self._restore()
            raise
        self._config = config
        self._schedule = getattr(config, "tinit", 0), getattr(config, "tfinal", 0), getattr(config, "total_step", 0)
        self.mergeable = not config.is_prompt_learning
        self.model = self._peft if config.is_prompt_learning else model
        self.prepended = config.num_virtual_tokens if config.is_prompt_learning else 0
        self.module = self._peft.prompt_encoder if config.is_prompt_learning else nn.Module()
        self._trainable = {
            name.replace(f".{self._name}", ""): parameter
            for name, parameter in self._peft.named_parameters()
            if parameter.requires_grad and self._name in name.split(".")
        }

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return self._trainable

    def shipped(self) -> Mapping[str, Tensor]:
        if not self._config.is_prompt_learning:
            return self._trainable
        encoder = self._peft.prompt_encoder[self._name]
        prompts = encoder.embedding.weight
        if not self._config.inference_mode:
            with torch.no_grad():
                prompts = encoder(torch.arange(len(prompts), device=prompts.device))
        return {"prompt_embeddings": prompts}

    def extra_loss(self, logits: Tensor, again: Callable[[], Tensor]) -> Tensor | None:  # noqa: ARG002
        """How far the rows of A and the columns of B are from orthonormal, where the config weighs that."""
        weight = getattr(self._config, "orth_reg_weight", 0.0)
        if not weight:
            return None
        factors = [
            factor
            for layer in self._layers()
            for factor in (layer.lora_A[self._name], layer.lora_B[self._name].transpose(0, 1))
        ]
        distances = [torch.linalg.norm(each @ each.T - torch.eye(len(each)).to(each)) for each in factors]
        return weight * torch.stack(distances).mean()

    def stepped(self, step: int, steps: int) -> None:
        if not self._allocates or steps < 2:
            return
        config = self._config
        tinit, tfinal, total = self._schedule
        config.total_step = steps
        config.tinit = tinit * steps // total
        config.tfinal = min(tfinal * steps // total, steps - 2)
        self._peft.base_model.update_and_allocate(step)

    def save(self, folder: Path) -> None:
        with self._all_ranks():
            self._peft.save_pretrained(str(folder), selected_adapters=[self._name], save_embedding_layers=False)
        nested = folder / self._name
        for file in nested.iterdir():
            file.replace(folder / file.name)
        nested.rmdir()
        (folder / "README.md").unlink(missing_ok=True)

    def load(self, folder: Path) -> None:
        with _told_plainly(f"'{folder}' does not belong to this model and method"), _quiet(), self._all_ranks():
            weights = load_peft_weights(str(folder), device="cpu")
            expected = get_peft_model_state_dict(self._peft, adapter_name=self._name, save_embedding_layers=False)
            if weights.keys() != expected.keys():
                raise ValueError(f"'{sorted(weights.keys() ^ expected.keys())[0]}' is in one of them only")
            for name, tensor in expected.items():
                if weights[name].shape != tensor.shape:
                    shapes = tuple(weights[name].shape), tuple(tensor.shape)
                    raise ValueError(f"'{name}' has shape {shapes[0]}, here it is {shapes[1]}")
            set_peft_model_state_dict(self._peft, weights, adapter_name=self._name)
        if self._config.is_prompt_learning:
            self._keep_prompts_only()

    def merge(self) -> None:
        if not self.mergeable:
            raise CannotMerge("prompts are inputs, not weights: they cannot be merged into the model.")
        for layer in self._layers():
            layer.merge(safe_merge=True, adapter_names=[self._name])

    def detach(self) -> None:
        self._restore()

    def _keep_prompts_only(self) -> None:
        """Prompts are saved as what an encoder made of them: once loaded, they are read and trained without it."""
        encoder = self._peft.prompt_encoder[self._name]
        self._config.inference_mode = True
        encoder.requires_grad_(False)
        encoder.embedding.requires_grad_(True)
        self._trainable = {name: each for name, each in self._trainable.items() if each is encoder.embedding.weight}

    def _layers(self) -> Iterator[Any]:
        for module in self._bare.modules():
            if isinstance(module, BaseTunerLayer) and self._name in module._all_available_adapter_names():
                yield module

    def _never_drop(self) -> None:
        """Spares LyCORIS layers in training a random number against dropping out: a simulated step has none to give."""
        for layer in self._layers():
            if isinstance(layer, LycorisLayer) and isinstance(layer, nn.Module):
                layer.register_forward_pre_hook(lambda own, _: setattr(own, "training", False))

    @contextmanager
    def _all_ranks(self) -> Iterator[None]:
        """Keeps peft from leaving out the ranks that are zero by now, and with them the shapes that `load` expects."""
        if not self._allocates:
            yield
            return
        pattern, self._config.rank_pattern = self._config.rank_pattern, None
        try:
            yield
        finally:
            self._config.rank_pattern = pattern

    def _restore(self) -> None:
        for path, module in self._modules_before.items():
            parent, _, leaf = path.rpartition(".")
            if path and getattr(self._modules_before[parent], leaf) is not module:
                setattr(self._modules_before[parent], leaf, module)
        for key in self._input_hooks:
            _hooks_on_input(self._bare).pop(key, None)
        for name in set(vars(self._bare)) - set(self._attributes_before):
            delattr(self._bare, name)
        for name in _HOOK_HANDLES & set(self._attributes_before):
            setattr(self._bare, name, self._attributes_before[name])


def _hooks_on_input(model: Any) -> dict[int, Any]:
    """Hooks on a model's embeddings: peft adds one where a model checkpoints its activations."""
    hooks: dict[int, Any] = getattr(getattr(model, "get_input_embeddings", lambda: None)(), "_forward_hooks", {})
    return hooks


def _activate_all(model: nn.Module) -> None:
    """Lets every peft method on the model take part: peft itself would silence an earlier one of the same kind."""
    for path, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            names = module._all_available_adapter_names()
            if len(names) > 1:
                raise CannotAttach(f"two methods of the same kind cannot share {path}: give one of them other sites.")
            module.set_adapter(names)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.train(model.training)


def _fit_prompt(config: peft.PromptLearningConfig, model: Any, sites: Sites) -> None:
    """Says what peft would guess from a model's config, wrongly where embeddings are narrower than layers."""
    embeddings = model.get_input_embeddings()
    config.token_dim = config.token_dim or embeddings.embedding_dim
    config.num_layers = config.num_layers or len(sites.layers)
    config.num_attention_heads = config.num_attention_heads or model.config.num_attention_heads


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in _SAID_IN_VAIN:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def _told_plainly(what: str) -> Iterator[None]:
    """peft reports what it cannot do by many exception types; the user gets its sentence, not its traceback."""
    try:
        yield
    except AutopeftError:
        raise
    except _REFUSALS as error:
        raise CannotAttach(f"{what}: {' '.join(str(error).split())}") from error
