"""Summaries of labels that frames hold under another name, or that are not taken from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mlff_calc.datasets.sample import KINDS, Sample


def absent_labels(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """For each kind of label, list sentences such as ``3 of 10 frames hold 'force' (keys.forces: force ... takes it)``.

    Reasons that differ between frames are counted separately; the most common comes first.
    """
    found: dict[str, list[str]] = {}
    for kind in KINDS:
        reasons = Counter(sample.absent[kind] for sample in samples if kind in sample.absent)
        if reasons:
            found[kind] = [f"{count} of {len(samples)} frames {reason}" for reason, count in reasons.most_common(5)]
    return found
