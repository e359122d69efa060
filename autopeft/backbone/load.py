"""Backbones: a frozen pretrained model with processor and map of its sites. Skeletons: the same without weights.

Only encoders and decoders are loaded, without a head; of an encoder-decoder model the encoder, where transformers has a
class for it; of a model of texts and images side by side (CLIP) the tower that reads images. A pooler is left out: the
head pools by itself. For a task whose head borrows it, a language model's output embedding comes beside its decoder, or
beside its encoder and decoder.
"""

import inspect
import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import logging as transformers_logging

from autopeft.backbone.claims import require_sane, require_weights, without_kernels
from autopeft.backbone.find import find_sites
from autopeft.backbone.fingerprint import fingerprint
from autopeft.backbone.held import held_in, hold, hold_mapped, is_exact, name_of, stored_in
from autopeft.backbone.inputs import example, named, reads
from autopeft.backbone.limits import positions_of, vocabulary_of
from autopeft.backbone.output import OutputEmbedding, output_of, require_causal
from autopeft.backbone.pixels import Pixels, pixels_of
from autopeft.backbone.processors import Processor, load_image_processor, load_tokenizer, require_fitting
from autopeft.backbone.quantised import format_of, pack
from autopeft.backbone.sites import Sites
from autopeft.backbone.source import Source, require_files, safetensors_of, source_of, why_not
from autopeft.errors import AutopeftError, require_extra


@dataclass(frozen=True)
class Skeleton:
    """A backbone on the meta device: shapes and sites, no values."""

    name: str
    model: PreTrainedModel = field(repr=False)
    sites: Sites = field(repr=False)
    output: OutputEmbedding | None = field(default=None, repr=False, kw_only=True)
    """What a language model makes logits with; None where it was not asked for."""

    def to(self, device: torch.device) -> None:
        """Moves the model, and what makes its logits, which may be tied to it."""
        self.model.to(device)  # type: ignore[arg-type]
        if self.output is not None:
            self.output.to(device)

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are held in, but for matrices that are packed."""
        return held_in(self.model)

    @property
    def holding(self) -> str:
        """What its weights are held in, as plans call it."""
        return format_of(self.model) or name_of(self.dtype)

    @property
    def positions(self) -> int | None:
        """The longest text in tokens that the model can read; None where there is no limit."""
        return positions_of(self.model)

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings for; None where it does not tell."""
        return vocabulary_of(self.model)

    @property
    def pixels(self) -> Pixels | None:
        """How images come to it, of the size that its configuration names; None where it reads none.

        Raises CannotAttach where that names no size.
        """
        if reads(self.model) != "pixel_values":
            return None
        height, width = example(self.model, 1, 1, "meta")["pixel_values"].shape[2:]
        return Pixels(height, width)


@dataclass(frozen=True)
class Backbone(Skeleton):
    """A frozen pretrained model, in eval mode, with its processor."""

    processor: Processor = field(repr=False)
    """A tokenizer, or an image processor."""
    parameters: int
    """Distinct parameters."""
    fingerprint: str
    """Tells two sets of weights apart, and is the same wherever they lie."""
    revision: str | None = None
    """Of the hub, the commit that was loaded; None for a folder."""
    pixels: Pixels | None = None
    """How its processor makes images come to it; None where it reads none."""
    copy: Path | None = None
    """The file that its weights are mapped from, where that is not the model's own."""
    whole: PreTrainedModel | None = field(default=None, repr=False, kw_only=True)
    """The language model that the decoder and its output embedding are parts of; None where it was not asked for."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        if self.whole is not None:
            self.whole.to(device)  # type: ignore[arg-type]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The processor of a model that reads texts. Raises AutopeftError for one that does not."""
        if not isinstance(self.processor, PreTrainedTokenizerBase):
            raise AutopeftError(f"'{self.name}' reads {named(self.model)}, not texts: give a model of texts.")
        return self.processor


def load_backbone(
    name: str,
    dtype: torch.dtype = torch.float32,
    *,
    trust_remote_code: bool = False,
    causal: bool = False,
    copies: Path | None = None,
    quantised: str | None = None,
) -> Backbone:
    """The backbone in a local folder or of a hub name, its weights held in `dtype` on the CPU, frozen; its matrices
    `quantised`, where that is said. Raises AutopeftError.

    Weights that are stored in that dtype are mapped: processes of one machine that only read them share them. Others
    are where there is a folder for `copies` in that dtype.
    A hub name may end with a revision (`org/name@v1`). Program code that comes with a model runs only with
    `trust_remote_code`. A `causal` one comes with its output embedding, or is refused.
    """
    if quantised is not None:
        require_extra("quantised")
    with _plainly(name) as source:
        require_files(source)
        config, kind = _configured(source, trust_remote_code, causal)
        require_weights(source, kind, config)
        model, info = _as_stored(source, kind, config)
        processor: Processor
        if reads(model) == "pixel_values":
            processor = load_image_processor(source, config, trust_remote_code)
        else:
            processor = load_tokenizer(source, trust_remote_code)
    _require_finite(name, model)
    model = without_pooler(model).requires_grad_(False)
    model.eval()  # type: ignore[no-untyped-call]
    whole, output = model, output_of(name, model) if causal else None
    if output is not None:
        # Before weights are missed: those of an encoder have no such head.
        require_causal(name, model, output, inner := without_head(model))
        model = inner
    _require_whole(name, info)
    known = fingerprint(model, output)
    copy = None
    if copies is not None and model.dtype != dtype and quantised is None:
        copy = copies / f"weights-{known[:16]}-{name_of(dtype)}" / "model.safetensors"
        hold_mapped(whole, dtype, copy)
    else:
        hold(whole, dtype)
    pixels = pixels_of(name, processor) if reads(model) == "pixel_values" else None
    if pixels is not None:
        require_fitting(name, model, pixels)
    every = {id(each): each for part in (model, output) if part is not None for each in part.parameters()}
    parameters = sum(parameter.numel() for parameter in every.values())
    sites, commit = find_sites(model, states_only=True), source.commit
    if quantised is not None:
        pack(model, quantised)
    language_model = whole if causal else None
    return Backbone(
        *(name, model, sites, processor, parameters, known, commit, pixels, copy), output=output, whole=language_model
    )


def _as_stored(source: Source, kind: Any, config: PretrainedConfig) -> tuple[Any, Mapping[str, Any]]:
    """The model in the dtype of its files, and what transformers says of loading it; in fp32 where these hold several,
    or where the model would compute tables of its own in that dtype.
    """
    for dtype in (stored_in(safetensors_of(source)), torch.float32):
        model, info = kind.from_pretrained(
            source.where,
            revision=source.revision,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        if is_exact(model):
            break
    return model, info


def load_skeleton(
    what: str | PretrainedConfig,
    dtype: torch.dtype = torch.float32,
    *,
    trust_remote_code: bool = False,
    causal: bool = False,
    quantised: str | None = None,
) -> Skeleton:
    """The same model without weights, from a folder, a hub name, a `config.json` or a config. Raises AutopeftError."""
    if isinstance(what, PretrainedConfig):
        config, kind = _meant(deepcopy(what), causal=causal)
        skeleton = _skeleton(type(what).__name__, kind, config, dtype, causal)
    else:
        with _plainly(what) as source:
            config, kind = _configured(source, trust_remote_code, causal)
        skeleton = _skeleton(what, kind, config, dtype, causal)
    if quantised is not None:
        pack(skeleton.model, quantised)
    return skeleton


def is_of_causal_model(what: str | PretrainedConfig, trust_remote_code: bool = False) -> bool:
    """Whether a model is one that goes on with texts, as far as its configuration tells: by the class that it names,
    else by what transformers has for it. Raises AutopeftError for one that cannot be had.
    """
    if not isinstance(what, PretrainedConfig):
        with _plainly(what) as source:
            what = _read(source, trust_remote_code)
    named = [each for each in getattr(what, "architectures", None) or () if "For" in each or "LMHead" in each]
    if named:
        return any(each.endswith(("ForCausalLM", "LMHeadModel")) for each in named)
    kinds = transformers.models.auto.modeling_auto
    reads_both_ways = type(what) in kinds.MODEL_FOR_MASKED_LM_MAPPING or getattr(what, "is_encoder_decoder", False)
    return type(what) in kinds.MODEL_FOR_CAUSAL_LM_MAPPING and not reads_both_ways


def _configured(source: Source, trust_remote_code: bool, causal: bool = False) -> tuple[PretrainedConfig, Any]:
    """The configuration, and the class of the model that it is of."""
    config = _read(source, trust_remote_code)
    return _meant(without_kernels(config), source if trust_remote_code else None, causal)


def _read(source: Source, trust_remote_code: bool) -> PretrainedConfig:
    plain, _ = PretrainedConfig.get_config_dict(source.where, revision=source.revision)
    require_sane(source.name, plain)
    config: PretrainedConfig = AutoConfig.from_pretrained(
        source.where, revision=source.revision, trust_remote_code=trust_remote_code
    )
    return config


def _skeleton(name: str, kind: Any, config: PretrainedConfig, dtype: torch.dtype, causal: bool) -> Skeleton:
    looks_back_only = any(getattr(config, each, False) for each in ("is_decoder", "causal", "is_encoder_decoder"))
    if (
        causal
        and not looks_back_only
        and type(config) in transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING
    ):
        # With weights it is tried.
        raise AutopeftError(
            f"'{name}' is no causal model: {kind.__name__} looks at later tokens, so it cannot learn to go on with a "
            "text. Give a decoder (GPT-2, Llama, Qwen, Gemma …)."
        )
    try:
        with quietly(), torch.device("meta"):
            model = kind._from_config(config, dtype=torch.float32)
            hold(model, dtype)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AutopeftError(f"no {kind.__name__} can be made of the configuration of '{name}': {reason}.") from error
    model = without_pooler(model).requires_grad_(False)
    model.eval()  # type: ignore[no-untyped-call]
    output = output_of(name, model) if causal else None
    inner: Any = without_head(model) if causal else model
    return Skeleton(name, inner, find_sites(inner, states_only=True), output=output)


def _require_whole(name: str, info: Mapping[str, Any]) -> None:
    for key, found, expected in info["mismatched_keys"]:
        shapes = f"{tuple(found)}, not {tuple(expected)}"
        raise AutopeftError(f"the weights of '{name}' do not fit its config.json: '{key}' has shape {shapes}.")
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise AutopeftError(
            f"the weights of '{name}' are incomplete: {len(missing)} tensors are missing, among them '{missing[0]}'."
        )


def _require_finite(name: str, model: PreTrainedModel) -> None:
    for path, tensor in model.named_parameters():
        if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
            raise AutopeftError(
                f"the weights of '{name}' are spoiled: '{path}' holds values that are infinite or no numbers (NaN)."
            )


def _meant(config: Any, trusted: Source | None = None, causal: bool = False) -> tuple[PretrainedConfig, Any]:
    """The configuration and class of the part of a model that is a backbone; of a causal one of the whole."""
    if causal:
        return config, _causal_class_for(config, trusted)
    kind = _class_for(config, trusted)
    if hasattr(kind, "get_text_features") and hasattr(kind, "get_image_features"):
        tower = getattr(transformers, kind.__name__.replace("Model", "VisionModel"), None)
        if tower is not None and isinstance(getattr(config, "vision_config", None), tower.config_class):
            config, kind = config.vision_config, tower
    if getattr(config, "vision_use_head", False):
        config.vision_use_head = False  # SigLIP's own pooling, which nothing would read
    return config, kind


def _class_for(config: PretrainedConfig, trusted: Source | None = None) -> Any:
    """The model class without a head; of an encoder-decoder the encoder's, whose own configuration does not tell.

    Of a source that is trusted the class that it brings, if it does.
    """
    own = (getattr(config, "auto_map", None) or {}).get("AutoModel")
    if own is not None and trusted is not None:
        return get_class_from_dynamic_module(own, trusted.where, revision=trusted.revision)
    kind: Any = transformers.models.auto.modeling_auto.MODEL_MAPPING.get(type(config), None)
    if isinstance(kind, tuple):
        kind = kind[0]
    if kind is None:
        raise AutopeftError(f"transformers has no plain model for the configuration {type(config).__name__}.")
    encoder = getattr(transformers, kind.__name__.replace("Model", "EncoderModel"), None)
    if encoder is None and getattr(config, "is_encoder_decoder", False):
        raise AutopeftError(
            f"{kind.__name__} is an encoder-decoder model whose encoder transformers does not offer alone."
        )
    return encoder or kind


def _causal_class_for(config: PretrainedConfig, trusted: Source | None) -> Any:
    """The class of a language model with its head. Raises AutopeftError."""
    own = (getattr(config, "auto_map", None) or {}).get("AutoModelForCausalLM")
    if own is not None and trusted is not None:
        return get_class_from_dynamic_module(own, trusted.where, revision=trusted.revision)
    both, kinds = bool(getattr(config, "is_encoder_decoder", False)), transformers.models.auto.modeling_auto
    mapping = kinds.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING if both else kinds.MODEL_FOR_CAUSAL_LM_MAPPING
    kind: Any = mapping.get(type(config), None)
    if kind is None:
        raise AutopeftError(
            f"{type(config).__name__} is of no language models: texts are written by a causal model (GPT-2, Llama, "
            "Qwen, Gemma …), or by an encoder with a decoder (T5, BART, Marian)."
        )
    return kind


def without_head(whole: Any) -> Any:
    """The part of a language model that gives its states: all of it but the output embedding."""
    if whole.base_model is not whole:
        return whole.base_model
    # T5's encoder and decoder lie beside its head.
    kind: Any = transformers.models.auto.modeling_auto.MODEL_MAPPING[type(whole.config)]
    with quietly(), torch.device("meta"):
        inner = kind._from_config(whole.config, dtype=torch.float32)
    for name, _ in [*inner.named_children()]:
        setattr(inner, name, getattr(whole, name))
    return inner.requires_grad_(False).train(whole.training)


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """A pooler goes where the model can do without one."""
    optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    if optional and getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)
    return model


@contextmanager
def quietly() -> Iterator[None]:
    """transformers shows neither progress nor warnings meanwhile."""
    verbosity, progress = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _plainly(name: str) -> Iterator[Source]:
    """Gives what transformers is to load, quietly; a sentence instead of a traceback where it leads nowhere."""
    with quietly():
        source = source_of(name)
        try:
            yield source
        except AutopeftError:
            raise
        except Exception as error:
            if isinstance(error, pickle.UnpicklingError):
                error = ValueError("its weights file is damaged")
            raise AutopeftError(why_not(source, error)) from error
