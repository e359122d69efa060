"""Costs of every method of a space, told how far they are while they are estimated."""

from collections.abc import Callable

from transformers import PretrainedConfig, PreTrainedModel

from autopeft.costs import estimate as costs
from autopeft.costs.told import Estimate
from autopeft.events import Event
from autopeft.python.progress import listening


def estimate(
    model: str | PretrainedConfig | PreTrainedModel,
    *,
    space: str = "default",
    memory: str | int | None = None,
    batch_size: int = 8,
    length: int = 512,
    task: str | None = None,
    labels: int = 2,
    gradient_checkpointing: bool = False,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    rows: int | None = None,
    processes: int = 1,
    on_event: Callable[[Event], None] | None = None,
    quiet: bool = False,
) -> tuple[Estimate, ...]:
    """The costs of every method and hybrid of a space at its defaults, and with `memory` the largest settings that fit.

    >>> estimate("bert-base-uncased", memory="4GiB", batch_size=16, length=128)

    `model` may be a folder, a hub name, a `config.json`, a configuration or a model; its weights are not needed. The
    task is text-generation for a causal model where none is given, and text-classification for others. On a machine
    with a GPU, what that has free is the limit of memory where none is given. Code that comes with a model runs only
    with `trust_remote_code`. With `rows` to train on, each tells the seconds of a whole training on this device, which
    is measured for it: its calibrations, steps and evaluations by the defaults. `processes` share the work; a script
    that asks for several needs `if __name__ == "__main__":`. `on_event` and `quiet` are as in `autopeft.search`. Raises
    AutopeftError for a model or a space that cannot be had.
    """
    asked = dict(locals())
    del asked["quiet"]
    with listening(on_event, quiet) as hears:
        return costs.estimate(**{**asked, "on_event": hears})
