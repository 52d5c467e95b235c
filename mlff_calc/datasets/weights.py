"""Weights of frames in a loss, by kind of configuration and as given in the frames themselves.

The weight of a label of a frame is a product, in which missing factors are 1:

    config_weights[config_type]  x  info["config_weight"]  x  info["config_energy_weight" | "config_forces_weight" | ...]

The names are those of MACE. Where a file has a virial it is converted to a stress, so `config_virials_weight` is
another name for `config_stress_weight`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mlff_calc.bounded import shorten
from mlff_calc.datasets.sample import KINDS, Kind, Sample
from mlff_calc.errors import DatasetError
from mlff_calc.near import suggestion

WHOLE = "config_weight"
OF_KIND: dict[Kind, tuple[str, ...]] = {
    "energy": ("config_energy_weight",),
    "forces": ("config_forces_weight",),
    "stress": ("config_stress_weight", "config_virials_weight"),
}
NAMES = (WHOLE, *(name for names in OF_KIND.values() for name in names))
LARGEST = 1e6
"""Largest allowed factor. Beyond it, a network would learn from a single frame only."""
NO_TYPE = "Default"
"""Name for frames without a config type."""


def type_of(sample: Sample) -> str:
    """Return the config type of a frame; ``Default`` where it has none."""
    return sample.config_type or NO_TYPE


def frame_weights(sample: Sample, by_type: Mapping[str, float], stated: bool = True) -> dict[Kind, float]:
    """Return the weight of each label of a frame.

    Args:
        sample: Frame.
        by_type: Weights by config type; 1 for all others.
        stated: Whether weights in the frame itself are used.

    Raises:
        DatasetError: A weight in the frame is not a number, negative or not finite; the message names file, frame, key
            and value.
    """
    common = by_type.get(type_of(sample), 1.0)
    if not stated or not sample.stated_weights:
        return dict.fromkeys(KINDS, common)
    values = {name: stated_weight(sample, name) for name in NAMES if name in sample.stated_weights}
    common *= values.get(WHOLE, 1.0)
    weights: dict[Kind, float] = {}
    for kind, names in OF_KIND.items():
        given = [name for name in names if name in values]
        if len({values[name] for name in given}) > 1:
            both = " and ".join(f"{name}={values[name]:g}" for name in given)
            raise DatasetError(f"{sample.place}: {both} are two weights of one {kind}; keep one of them")
        weights[kind] = common * (values[given[0]] if given else 1.0)
    return weights


def stated_weight(sample: Sample, name: str) -> float:
    """Return a weight in a frame as a number.

    Raises:
        DatasetError: It is not a number, negative or not finite; the message names file, frame, key and value.
    """
    value = sample.stated_weights[name]
    plain = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
    if isinstance(plain, int | float) and not isinstance(plain, bool) and 0 <= plain <= LARGEST:
        return float(plain)
    raise DatasetError(
        f"{sample.place}: {name} is {shorten(plain)}, which is not a valid weight; write a number from 0 to {LARGEST:g}, or "
        "remove it from the frame"
    )


def refuse_unknown_types(by_type: Mapping[str, float], samples: Iterable[Sample], place: str) -> None:
    """Refuse weights of config types that no frame has.

    Args:
        by_type: Weights by config type; ``Default`` is always allowed.
        samples: Frames.
        place: Place where the weights are given, for the message.

    Raises:
        DatasetError: No frame has a type; the message names it, the nearest one and all others.
    """
    known = sorted({type_of(sample) for sample in samples})
    for name in by_type:
        if name in known or name == NO_TYPE:
            continue
        hint = suggestion(name, known, after=" ")
        raise DatasetError(
            f"{place} names {name!r}, but no training frame has this config type: {hint}There are "
            f"{', '.join(map(repr, known[:20]))}; correct the name, or the key of the type (data.keys.config_type)"
        )


def weight_lines(samples: Sequence[Sample], weights: Sequence[Mapping[Kind, float]]) -> list[str]:
    """Describe each config type in a line such as ``surface: 12 frames, energy 4, forces 4, stress 0.5 to 4``."""
    types: dict[str, list[Mapping[Kind, float]]] = {}
    for sample, weight in zip(samples, weights, strict=True):
        types.setdefault(type_of(sample), []).append(weight)
    lines = []
    for name, found in sorted(types.items()):
        spans = [(min(one[kind] for one in found), max(one[kind] for one in found)) for kind in KINDS]
        said = [
            f"{kind} {low:g}" + (f" to {high:g}" if high > low else "")
            for kind, (low, high) in zip(KINDS, spans, strict=True)
        ]
        lines.append(f"{name}: {len(found)} frames, {', '.join(said)}")
    return lines
