"""The model card of an exported folder, as hubs show it: what it is, how to load it, what it scores and costs.

Pure: facts in, text out. What others named (classes, data, methods, metrics) is shown, but says nothing: on one line,
bounded, and without a meaning in YAML, Markdown or HTML.
"""

import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import yaml

from autopeft.artifacts.description import MERGED, Description
from autopeft.artifacts.reading import Reading
from autopeft.artifacts.unquantised import Again
from autopeft.artifacts.usage import Form, usage
from autopeft.confirmed import Member, confirmed
from autopeft.foreign import printable
from autopeft.fronts import latencies, latency_of
from autopeft.objectives import COSTS, Objective
from autopeft.plan import QUANTISED
from autopeft.sizes import show_bytes, show_milliseconds
from autopeft.space.candidate import Candidate
from autopeft.training.precision import FLOAT32
from autopeft.trial import SearchRecord, Status, Trial

CARD = "README.md"
_LIBRARIES = {Form.PEFT: "peft", Form.WHOLE: "transformers", Form.ONNX: "onnx"}
"""What the hub is to load a folder by, where that is not autopeft."""
_LONGEST = 80
"""Characters of what others named."""
_MOST = 50
"""Classes that are listed."""
_UNTOLD = (None, False, 0)
"""Settings of a training that leave something out of play."""
_TAG = re.compile(r"[A-Za-z0-9][\w.-]{0,60}")
_HUB = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
_ESCAPED = re.compile("([{}])".format(re.escape("".join({*string.punctuation} - {*",-'()/%+= "}))))


@dataclass(frozen=True)
class Facts:
    """All that a card tells."""

    description: Description
    candidate: Candidate
    form: Form
    kind: str = ""
    """The class of transformers that the folder holds, where it holds one."""
    trial: Trial | None = None
    """None of a method that no search trained."""
    reading: Reading = field(default_factory=Reading)
    again: Again | None = None
    """What it scores as it lies here, where that is something else than what was trained."""
    made_of: Candidate | None = None
    """What was trained, where a LoRA stands for it."""


def card(facts: Facts) -> str:
    """Markdown below a block of YAML."""
    task = facts.description.task
    backbone = _short(_backbone(facts))
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=1000)}---",
        f"# {_text(facts.candidate.name)} on {_text(backbone)}: {_text(task.name)}",
        f"Made of {_code(backbone)} by {_code(facts.candidate.name)} for {_text(task.name)}, with autopeft.",
        "## How to load it",
        *usage(facts.form, task, facts.kind, _python(_loadable(_backbone(facts))), facts.reading),
        *_section("Scores", _scores(facts)),
        *_section("Data", _data(facts)),
        *_section("Method and settings", _settings(facts.candidate)),
        *_section("Costs", _costs(facts.trial)),
        *_section("Where it comes from", _origin(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: Facts) -> dict[str, Any]:
    """What the hub reads: only names that it can know."""
    task, record = facts.description.task, _record(facts.trial)
    tags = ["autopeft", *(part.method for part in facts.candidate.parts)]
    data = record.plan.data if record else ""
    said: dict[str, Any] = {
        "library_name": _LIBRARIES.get(facts.form, "autopeft"),
        "base_model": _on_hub(_backbone(facts)),
        "pipeline_tag": task.pipeline,
        "tags": [tag for tag in dict.fromkeys(tags) if _TAG.fullmatch(tag)],
        "datasets": [name] if (name := _on_hub(data)) else [],
        "metrics": [record.metric.name] if record and _TAG.fullmatch(record.metric.name) else [],
    }
    score = facts.trial.score if facts.trial else None
    if record and score is not None and said["datasets"] and said["metrics"]:
        metric = {"type": record.metric.name, "value": round(score, 6), "name": f"{record.metric.name} (validation)"}
        result = {
            "task": {"type": task.pipeline or task.name},
            "dataset": {"type": name, "name": name, "split": "validation"},
            "metrics": [metric],
        }
        said["model-index"] = [{"name": _line(facts.candidate.name), "results": [result]}]
    return {key: value for key, value in said.items() if value}


def _scores(facts: Facts) -> Iterator[str]:
    trial, record = facts.trial, _record(facts.trial)
    if trial is None or record is None or trial.score is None:
        return
    metric, rows = record.metric, record.facts.get("validation_rows")
    less = "" if metric.higher_is_better else "; less is better"
    counted = f" ({rows:,} rows)" if isinstance(rows, int) else ""
    shown = metric.show_with(trial.score, trial.error)
    yield f"- {_text(metric.heading)} on validation data{counted}: {shown}{less}"
    yield from _merged(facts, metric)
    if trial.share < 1:
        why = "it was still being trained" if trial.status is Status.TRAINING else "the search ended it there"
        yield f"- trained for {trial.share:.0%} of its steps: {why}, and the score is from there"
    for name, other in trial.curve[-1].others.items() if trial.curve else ():
        yield f"- {_text(name)} on validation data: {metric.show_with(other, trial.other_errors.get(name))}"
    for name, each in record.baselines.items():
        longer = f" ({each.tokens:,.0f} tokens more per answer)" if each.tokens else ""
        yield f"- {_text(name)}{longer}, for comparison: {metric.show_with(each.score, each.error)}"
    sure = confirmed(record)
    for member in sure.members if sure else ():
        if member.trial.number == trial.number:
            yield from _confirmed(member, metric)
    yield (
        "\n± is the standard error over rows. The score is that of one training, picked out of several on the same "
        "rows: expect it to be a little worse on new data."
    )


def _merged(facts: Facts, metric: Objective) -> Iterator[str]:
    """Of what was trained as something else: that is not what lies here."""
    held, made_of = facts.description.dtype, facts.made_of
    if made_of is not None:
        (part,) = facts.candidate.parts
        now, before = f"as a LoRA of rank {_shown(part.settings['rank'])}", f"as {_code(made_of.name)}"
    elif held in QUANTISED and facts.form in (Form.WHOLE, Form.BACKBONE):
        now, before = "merged into the unquantised backbone", f"with the backbone in {_code(held)}"
    else:
        return
    if (found := facts.again) is None:
        yield f"- that is what was trained, {before}; {now} it is not known"
        return
    yield (
        f"- {_text(found.heading)} on validation data, {now} as it lies here: "
        f"{metric.show_with(found.score, found.error)}, after {metric.show(found.before)} {before}"
    )


def _confirmed(member: Member, metric: Objective) -> Iterator[str]:
    for split, spread in (("validation", member.validation), ("test", member.test)):
        if spread is not None:
            seeds = len(spread.values)
            how = f"mean of {seeds} trainings with other seeds" if seeds > 1 else "one training with another seed"
            how += ", of all steps" if member.trial.share < 1 else ""
            deviation = f", standard deviation {metric.show(spread.deviation)}" if spread.deviation else ""
            yield f"- {_text(metric.heading)} on {split} data, {how}: {metric.show(spread.mean)}{deviation}"


def _data(facts: Facts) -> Iterator[str]:
    record, task = _record(facts.trial), facts.description.task
    if record:
        yield f"- data: {_code(_short(record.plan.data))}"
        for split in ("train", "validation"):
            if isinstance(rows := record.facts.get(f"{split}_rows"), int):
                yield f"- {split} rows: {rows:,}"
    if names := task.output_names:
        more = f" and {len(names) - _MOST:,} more" if len(names) > _MOST else ""
        yield f"- classes: {', '.join(map(_code, names[:_MOST]))}{more}"
    scale, offset = task.unit
    if (scale, offset) != (1.0, 0.0):
        yield f"- numbers: mean {offset:.6g}, standard deviation {scale:.6g} in training data"


def _settings(candidate: Candidate) -> Iterator[str]:
    for part in candidate.parts:
        yield f"- {_code(part.method)}: learning rate {part.learning_rate:.3g}, weight decay {part.weight_decay:.3g}"
        for name, value in part.settings.items():
            yield f"  - {_code(name)}: {_code(_shown(value))}"
    yield "- training:"
    for each in fields(candidate.training):
        if (value := getattr(candidate.training, each.name)) not in _UNTOLD:
            yield f"  - {each.name.replace('_', ' ')}: {_code(_shown(value))}"


def _costs(trial: Trial | None) -> Iterator[str]:
    if trial is None:
        return
    told = dict(trial.outcome.facts) if trial.outcome else {}
    if trial.search and trial.number in (usual := latencies(trial.search.trials)):
        told["latency"] = usual[trial.number]
    for name, cost in COSTS.items():
        own = trial.measured(name)
        beside = "" if own is None else f" (measured {cost.show(own)})"
        yield f"- {cost.heading}: {cost.show(trial.predicted.value(name))}{beside}"
    for name, heading, show in (
        ("latency", f"latency of {latency_of(trial)}", show_milliseconds),
        ("bytes_on_disk", "on disk, method and head", show_bytes),
    ):
        if isinstance(value := told.get(name), int | float):
            yield f"- {heading}: {show(value)}"
    if device := told.get("device"):
        yield f"- device: {_code(device)}"


def _origin(facts: Facts) -> Iterator[str]:
    record, description = _record(facts.trial), facts.description
    if facts.made_of is not None:
        yield f"- trained as {_code(facts.made_of.name)}, whose change of the weights this LoRA holds"
    if record and facts.trial:
        yield f"- search {_code(record.name)}, trial {facts.trial.number}, seed {facts.trial.seed}"
    if description.revision:
        yield f"- revision of the backbone: {_code(description.revision)}"
    if description.fingerprint:
        yield f"- fingerprint of the backbone's weights: {_code(description.fingerprint)}"
    if description.dtype != FLOAT32:
        yield f"- the backbone's weights were held in {_code(description.dtype)}"
    versions = facts.trial.outcome.facts.get("versions") if facts.trial and facts.trial.outcome else None
    if isinstance(versions, dict):
        yield f"- versions: {', '.join(_code(f'{name} {version}') for name, version in versions.items())}"


def _section(heading: str, lines: Iterator[str]) -> Sequence[str]:
    text = "\n".join(lines)
    return (f"## {heading}", text) if text else ()


def _record(trial: Trial | None) -> SearchRecord | None:
    return trial.search if trial else None


def _backbone(facts: Facts) -> str:
    """Folder or hub name of the backbone; of what is merged already as the search knows it."""
    record, name = _record(facts.trial), facts.description.backbone
    return name if name != MERGED else record.plan.model if record else "model"


def _on_hub(place: str) -> str:
    """The name on the hub without its revision; empty for what is none, as far as names tell."""
    name = place.partition("@")[0]
    return name if "/" in name and _HUB.fullmatch(name) and not name.startswith(".") else ""


def _short(place: str) -> str:
    """What may be told of a place: of a folder its name, not where it lies on somebody's machine."""
    return _on_hub(place) or place.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or place


def _python(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _loadable(place: str) -> str:
    return _on_hub(place) or f"path/to/{_line(_short(place))}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(value: object) -> str:
    """On one line, bounded."""
    whole = printable(" ".join(str(value)[: 4 * _LONGEST].split()), "")
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…"


def _text(value: object) -> str:
    """As text that means only itself in Markdown."""
    return _ESCAPED.sub(r"\\\1", _line(value))


def _code(value: object) -> str:
    """As code, which means nothing in Markdown."""
    line = _line(value)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line or not line else f"{fence}{line}{fence}"
