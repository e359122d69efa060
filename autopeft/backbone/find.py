"""Finds the sites of any transformers model: by structure, a short table of names, and one traced forward pass.

Names tell `q` from `k`; they do not tell which dropout follows a projection, nor whether a norm comes before or after a
sub-layer. Those are read off a tiny forward pass, by the identity of tensors. The trace leaves the model as it was, and
also works on the meta device (then on fake tensors). A model must have `q` and `v`; others may be missing (mixtures of
experts have no one feed-forward). Layers may stand in several lists (the stages of Swin, each with widths of its own;
an encoder's and a decoder's).
"""

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from autopeft.backbone.fakes import GroupedProducts
from autopeft.backbone.idle import idle_parameters
from autopeft.backbone.inputs import bare, example, is_crossed, named, reads
from autopeft.backbone.sites import LINEAR, SITES, Place, Sites
from autopeft.errors import CannotAttach, unknown

_ROLES = (
    ("qkv", r"(c_attn|query_key_value|qkv_proj|Wqkv|qkv|in_proj)"),
    ("q", r"(query|query_proj|q_proj|q_lin|q|wq)"),
    ("k", r"(key|key_proj|k_proj|k_lin|k|wk)"),
    ("v", r"(value|value_proj|v_proj|v_lin|v|wv)"),
    ("o", r"(.*att\w*\.(.*\.)?(dense|c_proj|Wo|o)|o_proj|out_proj|out_lin|.*Attention\.o)"),
    ("gate_up", r"(gate_up_proj|mlp\.Wi)"),
    ("ffn.gate", r"(gate_proj|wi_0)"),
    ("ffn.up", r"(intermediate\.dense|up_proj|fc1|lin1|c_fc|dense_h_to_4h|wi|wi_1|ffn|fc_in)"),
    ("ffn.down", r"(output\.dense|down_proj|fc2|lin2|mlp\.c_proj|mlp\.Wo|dense_4h_to_h|wo|ffn_output|fc_out)"),
)
"""Role -> how a Linear's path inside its layer ends. The first match counts."""
_CROSS = r".*(EncDecAttention|encoder_attn|cross_attn|crossattention)\..*"
"""Attention of a decoder to an encoder."""
_INTERLEAVED = r".*(query_key_value|in_proj|\.attn\.qkv_proj)"
"""Fused projections whose rows alternate by head: no range of rows belongs to q, k or v."""
_TOKENS = 8
_EXAMPLE = (
    "{'layer': 'blocks.*', 'q': 'blocks.*.attn.wq', 'v': 'blocks.*.attn.wv', 'o': 'blocks.*.attn.wo', "
    "'ffn.up': 'blocks.*.mlp.w1', 'ffn.down': 'blocks.*.mlp.w2'}"
)


@dataclass
class _Call:
    path: str
    source: Any
    output: Any


@dataclass
class _Trace:
    calls: list[_Call] = field(default_factory=list)
    """Of leaf modules, in order."""
    ends: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Path of a layer -> number of calls until its first call ended, and its output."""
    width: int = 0
    """Features of the model's last states."""
    idle: frozenset[str] = frozenset()
    """Parameters that the output does not depend on."""


def find_sites(model: nn.Module, mapping: Mapping[str, str] | None = None, *, states_only: bool = False) -> Sites:
    """The sites of a transformers model, with paths relative to it.

    `mapping` says by hand where sites are: site -> module path with `*` for the layer's number, such as
    `{"layer": "blocks.*", "q": "blocks.*.attn.wq", "v": "blocks.*.attn.wv"}`; a path without `*` is a place outside the
    layers. `attention` follows from `o` and `q`, `ffn` from `ffn.down` and `ffn.up`; the layers count as pre-norm.

    `states_only` says that nothing but the last states will be read of the model, no pooled one either: what serves
    those is idle then.

    Raises CannotAttach for an architecture that is not understood, with what was found.
    """
    if mapping is not None:
        return _mapped(model, mapping)
    config = getattr(model, "config", None)
    for layers in _layers(model):
        trace = _traced(model, layers, states_only)
        # Models that read images beside texts have layers for these, which may be as many, and see no text.
        if layers[0] in trace.ends:
            break
    places: dict[str, list[Place]] = {}
    for number, layer in enumerate(layers):
        for site, place in _places_of_layer(model, config, trace, number, layer):
            places.setdefault(site, []).append(place)
    missing = {"q", "v"} - places.keys()
    if missing:
        raise CannotAttach(_not_understood(model, layers, f"no {', '.join(sorted(missing))}"))
    places["norm"] = list(_norms(model, layers, trace.idle))
    places["embedding"] = list(_embedding(model, {call.path for call in trace.calls}))
    found = {site: tuple(each) for site, each in places.items()}
    return Sites(type(model).__name__, trace.width, layers, found, trace.idle)


def _layers(model: nn.Module) -> Sequence[tuple[str, ...]]:
    """Paths of what may be the layers; of an encoder before those of its decoder."""
    if not is_crossed(model):
        return _alike(model)
    inner: Any = bare(model)
    before = _path_of(inner, model)
    stacks = (("encoder", inner.encoder), ("decoder", inner.decoder))
    return [tuple(f"{before}{name}.{layer}" for name, stack in stacks for layer in _alike(stack)[0])]


def _alike(model: nn.Module) -> Sequence[tuple[str, ...]]:
    """Paths of equal modules that hold several linear maps each and stand in lists; the most come first."""
    alike: dict[type, tuple[str, ...]] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) and len({type(layer) for layer in module}) == 1:
            linears = [sum(_is_linear(inner) for inner in layer.modules()) for layer in module]
            if min(linears) >= 4:
                paths = tuple(f"{path}.{number}" for number in range(len(module)))
                alike[type(module[0])] = alike.get(type(module[0]), ()) + paths
    if not alike:
        raise CannotAttach(_not_understood(model, (), "no list of equal layers"))
    return sorted(alike.values(), key=len, reverse=True)


def _traced(model: nn.Module, layers: tuple[str, ...], states_only: bool) -> _Trace:
    trace = _Trace()
    handles = []
    modes = {module: module.training for module in model.modules()}
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}

    def leaf(path: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            trace.calls.append(_Call(path, inputs[0] if inputs else None, output))

        return hook

    def end(path: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            trace.ends.setdefault(path, (len(trace.calls), output[0] if isinstance(output, tuple) else output))

        return hook

    try:
        for path, module in model.named_modules():
            if path in layers:
                handles.append(module.register_forward_hook(end(path)))
            elif not any(True for _ in module.children()):
                handles.append(module.register_forward_hook(leaf(path)))
        model.eval()
        for parameter in trained:
            parameter.requires_grad_(parameter.is_floating_point())
        with torch.enable_grad():
            output, used = _forward_once(bare(model))
        trace.width = output[0].shape[-1]
        before = _path_of(bare(model), model)
        trace.idle = idle_parameters([layer.removeprefix(before) for layer in layers], used, output, states_only)
    except CannotAttach:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CannotAttach(_not_understood(model, layers, f"called with {named(model)}, it raised {reason}")) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
        for parameter, flag in trained.items():
            parameter.requires_grad_(flag)
    return trace


def forward_once(model: nn.Module) -> Any:
    """The output for one short text, or one image; on the meta device, and for images, that of fake tensors on a CPU.

    A text is a few tokens; how large an image is, the model says, and a large model may say a large one.
    """
    return _forward_once(model)[0]


def _forward_once(model: nn.Module) -> tuple[Any, Mapping[str, Tensor]]:
    """The same, and what stood in the place of each parameter and buffer."""
    device = next(model.parameters()).device
    accepted = inspect.signature(model.forward).parameters
    extra: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted else {}
    if device.type != "meta" and reads(model) != "pixel_values":
        return model(**example(model, 1, _TOKENS, device), **extra), dict(model.named_parameters())
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"), GroupedProducts():  # type: ignore[no-untyped-call]
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        fake = {
            name: torch.empty(each.shape, dtype=each.dtype, device="cpu").requires_grad_(each.requires_grad)
            for name, each in tensors.items()
        }
        return functional_call(model, fake, kwargs={**example(model, 1, _TOKENS), **extra}), fake


def _places_of_layer(
    model: nn.Module, config: Any, trace: _Trace, number: int, layer: str
) -> Iterator[tuple[str, Place]]:
    yield "layer", Place(layer, number)
    roles: dict[str, str] = {}
    for path, module in model.get_submodule(layer).named_modules():
        if _is_linear(module) and (role := _role(path)) is not None:
            roles.setdefault(f"cross.{role}" if re.fullmatch(_CROSS, path) else role, f"{layer}.{path}")
    for role in LINEAR:
        if role in roles:
            yield role, Place(roles[role], number)
    if "qkv" in roles:
        for role, rows in _rows_of_qkv(model.get_submodule(roles["qkv"]), config, roles["qkv"]).items():
            yield role, Place(roles["qkv"], number, rows=rows)
    if "gate_up" in roles:
        half = _features(model.get_submodule(roles["gate_up"]))[1] // 2
        yield "ffn.gate", Place(roles["gate_up"], number, rows=(0, half))
        yield "ffn.up", Place(roles["gate_up"], number, rows=(half, 2 * half))
    if layer not in trace.ends:
        return
    last, output = trace.ends[layer]
    calls = [call for call in trace.calls[:last] if call.path.startswith(layer + ".")]
    post_norm = bool(calls) and _is_norm(model.get_submodule(calls[-1].path)) and calls[-1].output is output
    for site, inner, source in (("attention", "o", "q"), ("ffn", "ffn.down", "ffn.up")):
        if inner in roles:
            fused = {"q": "qkv", "ffn.up": "gate_up"}[source]
            after = _end_of_sublayer(model, calls, roles[inner])
            norm = _next_norm(model, calls, after) if post_norm else ""
            width = _features(model.get_submodule(roles[inner]))[1]
            yield site, Place(after, number, source=roles.get(source, roles.get(fused, "")), norm=norm, width=width)


def _role(path: str) -> str | None:
    for role, ending in _ROLES:
        if re.fullmatch(rf"(.*\.)?{ending}", path):
            return role
    return None


def _rows_of_qkv(module: nn.Module, config: Any, path: str) -> dict[str, tuple[int, int] | None]:
    if re.fullmatch(_INTERLEAVED, path):
        return {"q": None, "k": None, "v": None}
    heads = int(config.num_attention_heads)
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    size = _features(module)[1] // (heads + 2 * shared)
    q, kv = heads * size, shared * size
    return {"q": (0, q), "k": (q, q + kv), "v": (q + kv, q + 2 * kv)}


def _end_of_sublayer(model: nn.Module, calls: list[_Call], path: str) -> str:
    """The module that ends a sub-layer: the projection itself, or the dropout and the scale that follow it directly.

    A dropout that both sub-layers share ends neither of them.
    """
    paths = [call.path for call in calls]
    if path not in paths:
        return path
    start = paths.index(path)
    end, output = path, calls[start].output
    for call in calls[start + 1 :]:
        if call.source is output and _goes_with_projection(model.get_submodule(call.path)):
            if paths.count(call.path) > 1:
                break
            end, output = call.path, call.output
    return end


def _next_norm(model: nn.Module, calls: list[_Call], path: str) -> str:
    paths = [call.path for call in calls]
    later = paths[paths.index(path) + 1 :]
    return next((each for each in later if _is_norm(model.get_submodule(each))), "")


def _norms(model: nn.Module, layers: tuple[str, ...], idle: Collection[str] = ()) -> Iterator[Place]:
    before = _path_of(bare(model), model)
    for path, module in model.named_modules():
        if _is_norm(module):
            own = {f"{path}.{name}".removeprefix(before) for name, _ in module.named_parameters(recurse=False)}
            if own.difference(idle):
                yield Place(path, _layer_of(path, layers))


def _embedding(model: nn.Module, called: Collection[str] = ()) -> Iterator[Place]:
    """The module that embeds tokens, or patches of images: of several with the same weights the one that is called (T5
    has two)."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    weight = getattr(embeddings, "weight", None)
    paths = [
        path
        for path, module in model.named_modules()
        if module is embeddings or (isinstance(module, nn.Embedding) and module.weight is weight)
    ]
    if paths:
        yield Place(next((path for path in paths if path in called), paths[0]), -1)


def _path_of(part: nn.Module, model: nn.Module) -> str:
    """What names inside a part of a model begin with; empty for all of it."""
    return next(f"{path}." if path else "" for path, module in model.named_modules() if module is part)


def _layer_of(path: str, layers: tuple[str, ...]) -> int:
    return next((number for number, layer in enumerate(layers) if path.startswith(layer + ".")), -1)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and not any(True for _ in module.children())


def _goes_with_projection(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) or "layerscale" in type(module).__name__.lower()


def _features(module: nn.Module) -> tuple[int, int]:
    """Input and output features of a Linear or Conv1D."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    rows, columns = weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def _mapped(model: nn.Module, mapping: Mapping[str, str]) -> Sites:
    architecture, known = type(model).__name__, dict(model.named_modules())
    for site in mapping:
        if site not in SITES:
            raise unknown("site", site, SITES)
    if "*" not in mapping.get("layer", ""):
        raise CannotAttach(f"a mapping of sites needs 'layer', with * for the layer's number, such as {_EXAMPLE}.")
    count = 0
    while mapping["layer"].replace("*", str(count)) in known:
        count += 1
    if not count:
        first = mapping["layer"].replace("*", "0")
        raise CannotAttach(f"'{mapping['layer']}' names no layer of {architecture}: {first} is not there.")
    places: dict[str, tuple[Place, ...]] = {}
    for site, pattern in mapping.items():
        numbers = range(count) if "*" in pattern else (-1,)
        places[site] = tuple(Place(pattern.replace("*", str(number)), number) for number in numbers)
        for place in places[site]:
            if place.path not in known:
                raise CannotAttach(f"site '{site}': {architecture} has no module '{place.path}'.")
    layers = tuple(place.path for place in places["layer"])
    width = next((_features(each)[0] for each in known[layers[0]].modules() if _is_linear(each)), 0)
    if not width:
        raise CannotAttach(f"{layers[0]} of {architecture} holds no linear map.")
    for site, inner, source in (("attention", "o", "q"), ("ffn", "ffn.down", "ffn.up")):
        sources = {place.layer: place.path for place in places.get(source, ())}
        if site in places or (inner in places and source in places):
            places[site] = tuple(
                replace(place, source=sources.get(place.layer, ""), width=width)
                for place in places.get(site, places.get(inner, ()))
            )
    places.setdefault("norm", tuple(_norms(model, layers)))
    places.setdefault("embedding", tuple(_embedding(model)))
    return Sites(architecture, width, layers, places)


def _not_understood(model: nn.Module, layers: tuple[str, ...], why: str) -> str:
    shown = model.get_submodule(layers[0]) if layers else model
    linears = [f"{path} {_features(module)}" for path, module in shown.named_modules() if _is_linear(module)][:12]
    where = f"in {layers[0]}" if layers else "in the model"
    return (
        f"the architecture {type(model).__name__} is not understood: {why}. "
        f"Linear maps found {where}: {', '.join(linears) or 'none'}. "
        f"Say where the sites are: autopeft.attach(model, method, sites={_EXAMPLE})."
    )
