"""Sizes as people write them: `8GiB`, `500k`, `1%`, `2h`; and back into text."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autopeft.errors import AutopeftError
from autopeft.foreign import brief

_BYTES = {"": 1, "B": 1}
_BYTES |= {f"{p}B": 1000**i for i, p in enumerate("kMGT", 1)}
_BYTES |= {f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)}
_COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*"
_MOST = 1e300
_LEAST_NUMBER = 256
"""Bytes; a whole number below it is a slip, too. Others are what was read before, from a text with its unit."""
_NUMBER = re.compile(rf"\s*((?:{_WHOLE})(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True)
class Share:
    """A fraction of a total that is not known yet, as in `1%` of the backbone's parameters."""

    fraction: float

    def of(self, total: int) -> int:
        return math.floor(round(self.fraction * total, 6))

    def __str__(self) -> str:
        return f"{self.fraction * 100:.12g}%"


def _parse(text: str | float, units: Mapping[str, float], what: str, examples: str) -> float:
    known = isinstance(text, str) or (isinstance(text, int | float) and abs(text) < _MOST)
    match = _NUMBER.fullmatch(str(text)) if known else None
    value = math.inf
    if match:
        folded = {name.lower(): factor for name, factor in units.items()}
        unit = units.get(match[2], folded.get(match[2].lower(), math.inf))
        value = float(match[1].replace("_", "").replace(",", "")) * unit
    if not math.isfinite(value):
        raise AutopeftError(f"'{_said(text)}' is not {what}; write it like {examples}.")
    return value


def _said(text: object) -> str:
    return text if isinstance(text, str) and len(text) < 100 else brief(text, 100)


def parse_bytes(text: str | int | float) -> int:
    """`8GiB`, `500MB` or a plain number of bytes. Raises AutopeftError."""
    return int(_parse(text, _BYTES, "a size in bytes", "8GiB, 500MiB or 2GB"))


def parse_count(text: str | int | float) -> int:
    """`500k`, `1.5M` or a plain number. Raises AutopeftError."""
    return int(_parse(text, _COUNTS, "a number", "500k, 1.5M or 20000"))


def parse_count_or_share(text: str | int | float | Share) -> int | Share:
    """A count as above, or a share such as `1%`. Raises AutopeftError."""
    if isinstance(text, Share):
        return text
    stripped = text.strip() if isinstance(text, str) else ""
    if not stripped.endswith("%"):
        return parse_count(text)
    return Share(_parse(stripped[:-1], {"": 1}, "a share", "1% or 0.5%") / 100)


def parse_fraction(text: str | int | float) -> float:
    """`5%`, or a plain number such as 0.05. Raises AutopeftError."""
    share = isinstance(text, str) and text.strip().endswith("%")
    number = text.strip().removesuffix("%") if isinstance(text, str) else text
    return _parse(number, {"": 1}, "a share", "5% or 0.05") / (100 if share else 1)


def parse_seconds(text: str | int | float) -> float:
    """`20ms`, `90s`, `10m`, `2h` or a plain number of seconds. Raises AutopeftError."""
    return _parse(text, _SECONDS, "a duration", "90s, 10m or 2h")


def parse_score(text: str | int | float) -> float:
    """`0.9`, `90%` or any other number. Raises AutopeftError."""
    number, share = (
        (text.strip().removesuffix("%"), text.strip().endswith("%")) if isinstance(text, str) else (text, False)
    )
    try:
        value = math.nan if isinstance(text, bool) else float(number) / (100 if share else 1)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) < _MOST:
        raise AutopeftError(f"'{_said(text)}' is not a score; write it like 0.9 or 90%.")
    return value


def show_score(score: float) -> str:
    """`0.861`: three decimals; three significant figures of what is far beyond 1."""
    return f"{score:.3f}" if abs(score) < 1000 else f"{score:.3g}"


def show_number(number: float) -> str:
    """`12.34`: four significant figures."""
    return f"{number:.4g}"


def parse_memory(text: str | int | float) -> int:
    """A limit on memory, in bytes. Raises AutopeftError; also where its unit seems to be forgotten, as in `8`."""
    size = parse_bytes(text)
    if _is_bare(text) and 0 < size < (2**20 if isinstance(text, str) else _LEAST_NUMBER):
        raise _forgotten("memory", text, "bytes", "GiB" if size < 1000 else "MiB")
    return size


def parse_stored(text: str | int | float) -> int:
    """A limit on what is stored, in bytes. Raises AutopeftError; also where its unit seems to be forgotten."""
    size = parse_bytes(text)
    if _is_bare(text) and 0 < size < (2**10 if isinstance(text, str) else _LEAST_NUMBER):
        raise _forgotten("stored", text, "bytes", "MiB")
    return size


def parse_overhead(text: str | int | float) -> float:
    """A limit on what is extra, as a fraction. Raises AutopeftError; also where its `%` seems to be forgotten."""
    fraction = parse_fraction(text)
    if _is_bare(text) and fraction >= 1:
        raise _forgotten("overhead", text, "times what the backbone computes", "%")
    return fraction


def parse_latency(text: str | int | float) -> float:
    """A limit on the time of one text, in seconds. Raises AutopeftError; also where its unit seems to be forgotten."""
    seconds = parse_seconds(text)
    if _is_bare(text) and seconds >= 1:
        raise _forgotten("latency", text, "seconds for one text", "ms", "s")
    return seconds


def parse_training_time(text: str | int | float) -> float:
    """A limit on the time of one training, in seconds. Raises AutopeftError; also where there is none."""
    seconds = parse_seconds(text)
    if seconds == 0:
        raise AutopeftError("the time of a training must be more than 0 seconds.")
    return seconds


def parse_wait(name: str, text: str | int | float) -> float:
    """A limit on what somebody waits for, in seconds. Raises AutopeftError; also where its unit seems to be forgotten,
    as in `2`.
    """
    seconds = parse_seconds(text)
    if _is_bare(text) and 0 < seconds < 60:
        raise _forgotten(name, text, "seconds", "h", "m", "s")
    return seconds


def _is_bare(text: str | int | float) -> bool:
    """Whether a number came without a unit. What has a fraction was computed, or was read before: it is no slip."""
    return text.strip()[-1:] in "0123456789." if isinstance(text, str) else isinstance(text, int)


def _forgotten(name: str, text: str | int | float, read_as: str, *units: str) -> AutopeftError:
    given = str(text).strip()
    return AutopeftError(f"{name}: {given} {read_as}? Write {' or '.join(given + unit for unit in units)}.")


def show_bytes(size: float) -> str:
    """`3.02 GiB`: three significant figures, binary units."""
    return _show(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"), " ")


def show_count(count: float) -> str:
    """`295k`: three significant figures, decimal units."""
    return _show(count, 1000, ("", "k", "M", "G", "T"), "")


def show_fraction(fraction: float) -> str:
    """`4.2%`: of what is extra, in tenths of a percent."""
    return f"{fraction:.1%}"


def show_milliseconds(seconds: float) -> str:
    """`8.31 ms`: three significant figures."""
    return f"{1000 * seconds:.3g} ms"


def show_seconds(seconds: float) -> str:
    """`48 s`, `3 min 05 s`, `2 h 10 min`; what no clock counts as a plain number."""
    if not abs(seconds) < 1e12:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _show(value: float, base: int, units: tuple[str, ...], gap: str) -> str:
    power = 0
    while abs(value) >= base * 0.9995 and power < len(units) - 1:
        value /= base
        power += 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}{gap}{units[power]}".rstrip()
