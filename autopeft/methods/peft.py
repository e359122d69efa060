"""Every method that HF peft implements: autopeft configures and injects it, and takes it off again.

A card's `config` says what each field of the peft config receives; `$rank` stands for the setting `rank`. Sites become
full module paths: `$sites` stands for the places of the sites in the setting `sites`, `$sites[ffn.down]` for those
at one site. On a fused projection (GPT-2's `c_attn`) peft adapts the whole fused weight, whichever of q, k and v is
asked for. Two methods of one kind (LoRA twice) go on one model, but not on one module.

A schedule that a config gives in steps of its `total_step` (AdaLoRA's) is stretched to the real number of steps.

What peft cannot do, whatever it raises, is answered as CannotAttach in its words.
"""

import copy
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import peft
import torch
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.vblora.layer import VBLoRALayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from torch.random import fork_rng

from autopeft.backbone.quantised import Packed
from autopeft.backbone.sites import Sites
from autopeft.backbone.source import unasked
from autopeft.errors import AutopeftError, CannotAttach, CannotMerge
from autopeft.methods.base import Attachment, Divergence, Method, Stage
from autopeft.methods.hooked import read_tensors, require_finite
from autopeft.methods.in_place import widened
from autopeft.methods.peft_as_lora import factors_of
from autopeft.methods.peft_config import WRAPPED, fit_prompt, new_config, require_possible
from autopeft.methods.peft_lacks import lacks_of, prompts
from autopeft.methods.peft_layers import (
    activate_all,
    adapters,
    freeze_beside,
    require_different_names,
    require_that_covered_layers_run,
    tuner_layers,
)
from autopeft.methods.peft_ranks import ranks, take_up_ranks
from autopeft.methods.peft_valueless import without_values
from autopeft.methods.peft_values import stand_ins, taken_by
from autopeft.methods.quiet import quiet

_PUT_BACK = {"_require_grads_hooks", "_require_grads_hook", "peft_config"}
"""Attributes of a model: where transformers keeps the handles of its hooks on embeddings, and peft its configs."""
_LOOKING: Mapping[type, str] = {LycorisLayer: "module_dropout", VBLoRALayer: "save_only_topk_weights"}
"""Layers that in training look at a number, and in vain where this field of the config is 0 or false."""
_SAID_IN_VAIN = (
    r".*modify a model with PEFT for a second time.*",
    r".*`is_gradient_checkpointing` is deprecated.*",
    r"Specified to not (save|load) .*",
    r"fan_in_fan_out is set to False but the target module is `Conv1D`.*",
    r"Unsupported layer type .* encountered, proceed at your own risk.*",
    r"Detected that the base layer has no bias term.*",
    r"Sparse invariant checks are implicitly disabled.*",
    r"save_precomputed_indices=False.*",
    r"(Failed to load the CUDA extension|Setting boft_n_butterfly_factor to 1).*",
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
        return Stage.WRAP if prompts(self.config_class) else Stage.REPLACE

    @property
    def lacks(self) -> Mapping[str, str]:  # type: ignore[override]
        return lacks_of(self.config_class)

    def attach(self, model: nn.Module, sites: Sites) -> "PeftAttachment":
        fields = {name: self._filled(value, sites) for name, value in self.config.items()}

        def fitted() -> Any:
            config = new_config(self.config_class, fields)
            if config.is_prompt_learning:
                fit_prompt(config, model, sites)
            return config

        valueless = next(model.parameters()).is_meta
        with (
            _told_plainly(f"peft refuses {self.config_class}"),
            quiet(_SAID_IN_VAIN),
            fork_rng(devices=[], enabled=valueless),
            unasked(),
        ):
            if not valueless:
                return PeftAttachment(model, fitted())
            values = stand_ins(model, fields.get("target_modules", ()))
            return without_values(lambda: PeftAttachment(model, fitted()), values)

    def require_possible(self) -> None:
        """Raises AutopeftError where peft refuses the values, wherever the sites are."""
        require_possible(self.config_class, {name: self._filled(value, None) for name, value in self.config.items()})

    def _filled(self, value: Any, sites: Sites | None) -> Any:
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        setting = self.settings[match[1]]
        if match[1] != "sites":
            return list(setting) if isinstance(setting, tuple) else setting
        if sites is None:
            return list(setting)
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
        own = {id(parameter) for parameter in model.parameters()}
        hooks_before = dict(_hooks_on_input(model))
        self._input_hooks: set[int] = set()
        self._name = f"autopeft{len({name for each in tuner_layers(model) for name in adapters(each)})}"
        self._taken = taken_by(config, model)
        try:
            config.inference_mode = False
            vars(model).pop("peft_config", None)
            self._peft = peft.get_peft_model(model, config, adapter_name=self._name)
            self._input_hooks = _hooks_on_input(model).keys() - hooks_before.keys()
            if self._taken:
                self._taken.began(self._name)
            freeze_beside(self._layers())
            require_different_names(model)
            activate_all(model)
            require_that_covered_layers_run(self._layers())
            self._allocates = hasattr(config, "total_step")
            if self._allocates and not config.target_r < config.init_r:
                raise CannotAttach(f"a rank of {config.target_r} is to remain of {config.init_r}: begin with more.")
            self._trainable = {
                name.replace(f".{self._name}", ""): parameter
                for name, parameter in self._peft.named_parameters()
                if parameter.requires_grad and id(parameter) not in own
            }
            if not self._trainable:
                raise CannotAttach(f"peft's {type(config).__name__} finds nothing to train in {type(model).__name__}.")
            widened(self._peft, self._trainable.values())
            self._require_useful_ranks()
            self._spare_looking(config)
        except BaseException:
            self._restore()
            raise
        self._config = config
        self._schedule = getattr(config, "tinit", 0), getattr(config, "tfinal", 0), getattr(config, "total_step", 0)
        self.alone = bool(getattr(config, "use_dora", False))
        self.model = self._peft if config.is_prompt_learning else model
        self.prepended = config.num_virtual_tokens if config.is_prompt_learning else 0
        self.module = self._peft.prompt_encoder if config.is_prompt_learning else nn.Module()

    @property
    def mergeable(self) -> bool:  # type: ignore[override]
        """Found out on copies of its layers: peft has no other word for it."""
        different = {}
        for layer in self._layers():
            has_bias = getattr(layer.get_base_layer(), "bias", None) is not None
            different[type(layer), has_bias] = layer
        return bool(different) and all(self._merges(layer) for layer in different.values())

    def trainable(self) -> Mapping[str, nn.Parameter]:
        return self._trainable

    def shipped(self) -> Mapping[str, Tensor]:
        if not self._config.is_prompt_learning:
            with quiet(_SAID_IN_VAIN), self._all_ranks():
                saved = get_peft_model_state_dict(self._peft, adapter_name=self._name, save_embedding_layers=False)
            return {**saved, **(self._taken.shipped() if self._taken else {})}
        prompt = self.prompt()
        assert prompt is not None
        return {"prompt_embeddings": prompt}

    def prompt(self) -> Tensor | None:
        if not self._config.is_prompt_learning:
            return None
        encoder = self._peft.prompt_encoder[self._name]
        prompt: Tensor = encoder.embedding.weight
        with torch.no_grad():
            return prompt if self._config.inference_mode else encoder(torch.arange(len(prompt), device=prompt.device))

    def moves(self) -> Iterable[nn.Parameter]:
        """Weights, as a rule; biases where the layer trains nothing else; of a norm both."""
        for layer in self._layers():
            own = dict((base := layer.get_base_layer()).named_parameters(recurse=False))
            if isinstance(base, Packed):
                own["weight"] = cast(nn.Parameter, base.codes)
            if all("bias" in name for name in layer.adapter_layer_names):
                yield from (parameter for name, parameter in own.items() if name == "bias")
            else:
                yield from (parameter for name, parameter in own.items() if name == "weight" or own["weight"].ndim < 2)

    def extra_loss(self, output: Tensor, again: Callable[[], Tensor], divergence: Divergence) -> Tensor | None:  # noqa: ARG002
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

    def state(self) -> Mapping[str, Tensor]:
        return ranks(self._peft.base_model.rankallocator, self._config) if self._allocates else {}

    def take_up(self, state: Mapping[str, Tensor]) -> None:
        if self._allocates:
            device = next(iter(self._trainable.values())).device
            take_up_ranks(self._peft.base_model.rankallocator, self._config, state, device)

    def save(self, folder: Path) -> None:
        with self._all_ranks():
            self._peft.save_pretrained(str(folder), selected_adapters=[self._name], save_embedding_layers=False)
        nested = folder / self._name
        for file in nested.iterdir():
            file.replace(folder / file.name)
        nested.rmdir()
        (folder / "README.md").unlink(missing_ok=True)
        if self._taken:
            self._taken.added_to(folder)

    def load(self, folder: Path) -> None:
        with (
            _told_plainly(f"'{folder}' does not belong to this model and method"),
            quiet(_SAID_IN_VAIN),
            self._all_ranks(),
        ):
            # Not peft's own way, which reads pickled weights too, and asks the hub where there are none.
            weights: Mapping[str, Tensor] = read_tensors(folder / SAFETENSORS_WEIGHTS_NAME)
            if self._taken:
                weights = self._taken.found_in(weights)
            expected = get_peft_model_state_dict(self._peft, adapter_name=self._name, save_embedding_layers=False)
            weights = self._of_bare(weights, expected)
            if weights.keys() != expected.keys():
                raise ValueError(f"'{sorted(weights.keys() ^ expected.keys())[0]}' is in one of them only")
            for name, tensor in expected.items():
                if weights[name].shape != tensor.shape:
                    shapes = tuple(weights[name].shape), tuple(tensor.shape)
                    raise ValueError(f"'{name}' has shape {shapes[0]}, here it is {shapes[1]}")
                if tensor.is_floating_point() or weights[name].dtype != tensor.dtype:
                    require_finite(name, weights[name], folder)
            set_peft_model_state_dict(self._peft, weights, adapter_name=self._name)
        self.settle()

    def _of_bare(self, weights: Mapping[str, Tensor], expected: Container[str]) -> Mapping[str, Tensor]:
        """The weights by the names that they have on a bare model, also of a file for a model with its head."""
        inside = f"{getattr(self._bare, 'base_model_prefix', '')}."
        return {
            name if name in expected else name.replace(WRAPPED + inside, WRAPPED, 1): each
            for name, each in weights.items()
        }

    def settle(self) -> None:
        """Prompts are what an encoder made of them: from now on they are read and trained without it."""
        if not self._config.is_prompt_learning:
            return
        encoder = self._peft.prompt_encoder[self._name]
        self._config.inference_mode = True
        encoder.requires_grad_(False)
        encoder.embedding.requires_grad_(True)
        self._trainable = {name: each for name, each in self._trainable.items() if each is encoder.embedding.weight}

    def merge(self) -> None:
        if not self.mergeable:
            raise CannotMerge(
                "what this method does is no change of the model's weights: it cannot be merged into them."
            )
        for layer in self._layers():
            covered = layer.base_layer
            layer.merge(safe_merge=True, adapter_names=[self._name])
            if layer.base_layer is not covered:
                covered.load_state_dict(layer.base_layer.state_dict())
        if self._taken:
            self._taken.leave()

    def as_lora(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        return factors_of(self._peft, self._name, self._layers())

    def detach(self) -> None:
        self._restore()

    def _layers(self) -> Iterable[Any]:
        return [layer for layer in tuner_layers(self._bare) if self._name in adapters(layer)]

    def _merges(self, layer: Any) -> bool:
        """Tried on a copy; what fails on a model without values for want of them is no refusal."""
        layer = copy.deepcopy(layer)
        if any(parameter.is_meta for parameter in layer.parameters()):
            layer.to_empty(device="cpu")
            for tensor in (*layer.parameters(), *layer.buffers()):
                tensor.data.zero_()
        try:
            with quiet(_SAID_IN_VAIN), torch.device(layer.get_base_layer().weight.device):
                layer.merge(adapter_names=[self._name])
        except Exception as error:
            return "meta" in str(error)
        return True

    def _require_useful_ranks(self) -> None:
        for layer in self._layers():
            if self._name in getattr(layer, "lora_A", ()):
                rank, most = layer.r[self._name], min(layer.in_features, layer.out_features)
                if rank > most:
                    shape = f"{layer.out_features} x {layer.in_features}"
                    raise CannotAttach(f"a change of a weight of {shape} has a rank of {most} at most, not {rank}.")

    def _spare_looking(self, config: Any) -> None:
        """Spares layers in training a look at a number that says nothing: a simulated step has none to show."""
        spared = tuple(kind for kind, field in _LOOKING.items() if not getattr(config, field, True))
        for layer in filter(lambda each: isinstance(each, spared), self._layers()):
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
        if self._taken:
            self._taken.put_back()
        for path, module in self._modules_before.items():
            parent, _, leaf = path.rpartition(".")
            if path and getattr(self._modules_before[parent], leaf) is not module:
                setattr(self._modules_before[parent], leaf, module)
        for key in self._input_hooks:
            _hooks_on_input(self._bare).pop(key, None)
        for name in set(vars(self._bare)) - set(self._attributes_before):
            delattr(self._bare, name)
        for name in _PUT_BACK & set(self._attributes_before):
            setattr(self._bare, name, self._attributes_before[name])


def _hooks_on_input(model: Any) -> dict[int, Any]:
    """Hooks on a model's embeddings: peft adds one where a model checkpoints its activations."""
    hooks: dict[int, Any] = getattr(getattr(model, "get_input_embeddings", lambda: None)(), "_forward_hooks", {})
    return hooks


@contextmanager
def _told_plainly(what: str) -> Iterator[None]:
    """peft reports what it cannot do by many exception types; the user gets its sentence, not its traceback."""
    try:
        yield
    except (AutopeftError, Warning):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise CannotAttach(f"{what}: {reason}.") from error
