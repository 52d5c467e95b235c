"""Suggestions for unknown names."""

from __future__ import annotations

from mlff_calc.near import nearest, suggestion

KNOWN = ["energy", "forces", "stress"]


def test_nearest() -> None:
    assert nearest("force", KNOWN) == "forces"
    assert nearest("charge", KNOWN) is None
    assert nearest(17, KNOWN) is None
    assert nearest("ener", KNOWN, cutoff=0.9) is None


def test_suggestion() -> None:
    assert suggestion("stres", KNOWN, before=" (", after=")") == " (did you mean 'stress'?)"
    assert suggestion("charge", KNOWN, before="; ") == ""
