"""Sites: the named places of a backbone where a method can attach.

`q k v o` are the attention projections, `ffn.up`, `ffn.gate`, `ffn.down` the feed-forward ones; `cross.q` and its kin
are those of a decoder's attention to an encoder. Layers of both are numbered through, those of the encoder first.
`attention` (to itself) and `ffn` are the sub-layer outputs before residual and norm; `norm`, `embedding` (of tokens, or
of an image's patches) and `layer` are what they say. A place is a module path, looked up in the model when a method
attaches, so that it still holds after other methods replaced modules.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autopeft.errors import AutopeftError, CannotAttach

CROSS = ("cross.q", "cross.k", "cross.v", "cross.o")
LINEAR = ("q", "k", "v", "o", "ffn.up", "ffn.gate", "ffn.down", *CROSS)
"""Those that are linear maps."""
SITES = (*LINEAR, "attention", "ffn", "norm", "embedding", "layer")
"""Every name that a site may have."""
ALL_LINEAR = "all-linear"
"""A name for all of these that a backbone has; peft's own."""
Layers = str | int | Sequence[int]
"""Which layers: 'all', 'first 6', 'last 3', 'last 50%', '3 of 4' (the upper 3 of every 4), 'spindle 1 4' (groups 1 and
4 of `spindle`), or numbers from 0."""


@dataclass(frozen=True)
class Place:
    """One site in one layer."""

    path: str
    """Module whose output is the site's output."""
    layer: int
    """Layer number from 0; -1 outside the layers (embeddings, final norm)."""
    source: str = ""
    """For `attention` and `ffn`: the module whose first input is the sub-layer's input."""
    norm: str = ""
    """For `attention` and `ffn` of post-norm layers: the norm that follows the residual sum."""
    rows: tuple[int, int] | None = None
    """For a fused projection: the range of its output features that belongs to this site."""
    width: int = 0
    """For `attention` and `ffn`: the features of the sub-layer's output."""


@dataclass(frozen=True)
class Sites:
    """The map of one architecture: every site's places, by name."""

    architecture: str
    """Class name of the model."""
    width: int
    """Features of the model's last states: what a head receives."""
    layers: tuple[str, ...]
    """Module path of every layer, in order."""
    places: Mapping[str, tuple[Place, ...]] = field(repr=False)
    idle: frozenset[str] = frozenset()
    """Parameters that the output does not depend on, by their names in the part of the model that reads its input."""

    def at(self, site: str, layers: Layers = "all") -> tuple[Place, ...]:
        """The places of `site` in the chosen layers; places outside the layers come with 'all' only. 'all-linear' is
        every linear map of attention and feed-forward parts.

        Raises CannotAttach when the backbone has no such site.
        """
        named = LINEAR if site == ALL_LINEAR else (site,)
        found = tuple(place for name in named for place in self.places.get(name, ()))
        if not found:
            known = sorted(name for name, places in self.places.items() if places)
            raise CannotAttach(f"{self.architecture} has no site '{site}'; it has {', '.join(known)}.")
        if layers == "all":
            return found
        chosen = set(layer_numbers(layers, len(self.layers)))
        return tuple(place for place in found if place.layer in chosen)


def layer_numbers(layers: Layers, count: int) -> tuple[int, ...]:
    """The layer numbers that a choice of layers means in a model of `count` layers. Raises AutopeftError."""
    if layers == "all":
        return tuple(range(count))
    match = re.fullmatch(r"(first|last) (\d+)(%?)", layers) if isinstance(layers, str) else None
    if match:
        number = int(match[2])
        size = max(min(number, 1), round(count * number / 100)) if match[3] else number
        if not 1 <= size <= count:
            raise AutopeftError(f"'{layers}' asks for {size} layers; this backbone has {count}.")
        return tuple(range(size)) if match[1] == "first" else tuple(range(count - size, count))
    match = re.fullmatch(r"(\d+) of (\d+)", layers) if isinstance(layers, str) else None
    if match:
        kept, among = int(match[1]), int(match[2])
        if not 1 <= kept <= among:
            raise AutopeftError(f"'{layers}' asks for {kept} of every {among} layers; write such as '3 of 4'.")
        return tuple(number for number in range(count) if (count - 1 - number) % among < kept)
    match = re.fullmatch(r"spindle((?: [1-4])+)", layers) if isinstance(layers, str) else None
    if match:
        groups = spindle(count)
        return tuple(number for group in sorted({*match[1].split()}) for number in groups[int(group) - 1])
    given = layers if isinstance(layers, list | tuple) else [layers]
    numbers = [number for number in given if isinstance(number, int)]
    if not numbers or len(numbers) < len(given):
        raise AutopeftError(
            f"{layers!r} names no layers; write 'all', 'first 6', 'last 3', 'last 50%', '3 of 4' or a list of numbers."
        )
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong:
        raise AutopeftError(f"there is no layer {wrong[0]}; this backbone has layers 0 to {count - 1}.")
    return tuple(sorted(set(numbers)))


def spindle(count: int) -> tuple[range, range, range, range]:
    """Four groups of `count` layers in order: the middle two are equal, near a third of all, and the largest.

    Raises CannotAttach where there are no such groups.
    """
    for middle in sorted(range(1, count), key=lambda size: abs(3 * size - count)):
        first = (count - 2 * middle) // 2
        last = count - 2 * middle - first
        if 1 <= first <= last < middle:
            ends = (first, first + middle, first + 2 * middle, count)
            return range(ends[0]), range(ends[0], ends[1]), range(ends[1], ends[2]), range(ends[2], ends[3])
    raise CannotAttach(f"{count} layers make no spindle of four groups whose middle two are equal and the largest.")
