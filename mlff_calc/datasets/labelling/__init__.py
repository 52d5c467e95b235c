"""Work on many items, such as labelling structures or making structures of SMILES, by several processes, restartable."""

from __future__ import annotations

from mlff_calc.datasets.labelling.journal import LabelJournal
from mlff_calc.datasets.labelling.kind import ComputedKind, ItemKind, LabelKind, WholeFile
from mlff_calc.datasets.labelling.processes import Alone, Outcome, check_workers, outcomes
from mlff_calc.datasets.labelling.run import LabelSummary, check_label_target, journal_of, label_items, label_structures

__all__ = [
    "Alone",
    "ComputedKind",
    "ItemKind",
    "LabelJournal",
    "LabelKind",
    "LabelSummary",
    "Outcome",
    "WholeFile",
    "check_label_target",
    "check_workers",
    "journal_of",
    "label_items",
    "label_structures",
    "outcomes",
]
