"""Two sets of structures of one molecule beside each other, each distance with the noise of equal distributions.

Samples of a distribution are compared by histograms (`metrics.py`): distances of pairs of atoms by the number of bonds
between them, torsion angles about every bond that can turn, and energies where both sets have them. Sets of conformers are
compared by RMSD (coverage and matching).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.graph.bonds import HOPS, bonds_of, hop_counts
from mlff_calc.sampling.metrics import (
    coverage,
    jensen_shannon,
    noise_floor,
    pair_distances,
    torsions,
    total_variation,
    wasserstein,
)
from mlff_calc.sampling.reweighting import effective_sample_size
from mlff_calc.sampling.systems import FloatArray

ENERGY_BINS = 50
"""Number of bins for energies, of which a structure has one. Raising it needs more structures for the same noise."""
_GROUPS = {1: "bonded", 2: "1-3", HOPS: "1-4", HOPS + 1: "farther"}


@dataclass(frozen=True)
class Row:
    """One distance.

    Attributes:
        quantity: What is compared.
        metric: Name of the distance, with its unit.
        value: Distance of the two sets.
        floor: Mean distance of equal distributions with as many samples; NaN where it means nothing.
    """

    quantity: str
    metric: str
    value: float
    floor: float = float("nan")


@dataclass(frozen=True)
class Comparison:
    """Result of `compare_samples` or `compare_conformers`.

    Attributes:
        reference: Number of reference structures.
        other: Number of other structures.
        rows: The distances.
        notes: What was left out.
    """

    reference: int
    other: int
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; floors that mean nothing are None."""
        rows = [
            {"quantity": r.quantity, "metric": r.metric, "value": r.value, "floor": None if np.isnan(r.floor) else r.floor}
            for r in self.rows
        ]
        return {"reference": self.reference, "other": self.other, "rows": rows, "notes": self.notes}

    def as_text(self) -> str:
        """A table of plain text."""
        width = max([len(row.quantity) for row in self.rows] + [8])
        head = f"{'quantity':<{width}}  {'metric':<12}  {'value':>10}  noise"
        lines = [f"{self.other} structures against {self.reference}", head]
        for row in self.rows:
            floor = "" if np.isnan(row.floor) else f"{row.floor:.4g}"
            lines.append(f"{row.quantity:<{width}}  {row.metric:<12}  {row.value:>10.4g}  {floor}".rstrip())
        return "\n".join(lines + self.notes)


def turning_chains(numbers: NDArray[np.int64], bonds: list[list[int]]) -> NDArray[np.int64]:
    """One chain of four atoms [n_chains, 4] for each bond outside of rings whose ends both have further atoms.

    Ends are the heaviest neighbours, and of these the first.
    """
    neighbours: list[list[int]] = [[] for _ in numbers]
    for i, j in bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    chains = []
    for i, j in bonds:
        outer_i = [k for k in neighbours[i] if k != j]
        outer_j = [k for k in neighbours[j] if k != i]
        if outer_i and outer_j and not _joined(neighbours, i, j):
            ends = [max(outer, key=lambda k: (numbers[k], -k)) for outer in (outer_i, outer_j)]
            chains.append([ends[0], i, j, ends[1]])
    return np.array(chains, dtype=np.int64).reshape(-1, 4)


def _joined(neighbours: list[list[int]], i: int, j: int) -> bool:
    """Whether atoms i and j are joined beside their bond, that is in a ring."""
    seen, front = {i}, [k for k in neighbours[i] if k != j]
    while front:
        atom = front.pop()
        if atom == j:
            return True
        if atom not in seen:
            seen.add(atom)
            front += neighbours[atom]
    return False


def compare_samples(
    reference: Sequence[Atoms], other: Sequence[Atoms], *, kT: float | None = None, seed: int = 0, weighted: bool = True
) -> Comparison:
    """Compare two sets of samples of one molecule or cluster.

    Args:
        reference: Structures, with energies where they are to be compared.
        other: Structures; `info["weight"]` counts as their weight.
        kT: Thermal energy, eV. Structures whose energy is above the largest reference energy by more than 10 kT are not
            valid; None lets every energy count.
        seed: Seed of the draws for the noise.
        weighted: Whether weights are used.

    Raises:
        OptionError: There are no structures, or they hold different atoms.
    """
    numbers = _common_numbers([*reference, *other])
    one, two = (np.stack([atoms.positions for atoms in each]) for each in (reference, other))
    weights = _weights(other) if weighted else None
    bonds = bonds_of(numbers, one)
    rows: list[Row] = []

    def add(quantity: str, name: str, metric: Any, first: FloatArray, second: FloatArray) -> None:  # noqa: ANN401
        repeated = None if weights is None else np.repeat(weights, second[0].size)
        value = metric(first.reshape(-1), second.reshape(-1), repeated)
        n = len(second) if weights is None else max(1, round(effective_sample_size(weights)))
        rows.append(Row(quantity, name, value, noise_floor(metric, first, n, seed=seed)))

    distances = pair_distances(one), pair_distances(two)
    hops = hop_counts(len(numbers), bonds)[np.triu_indices(len(numbers), 1)]
    for count, name in _GROUPS.items():
        if (hops == count).any():
            label = f"distances, {name}" if bonds else "distances"
            add(label, "TV", total_variation, distances[0][:, hops == count], distances[1][:, hops == count])
    for chain in turning_chains(numbers, bonds):
        angles = [torsions(each, chain[None]) for each in (one, two)]
        add("torsion " + "-".join(map(str, chain)), "JS", jensen_shannon, angles[0], angles[1])
    notes = []
    energies = [np.array([_energy(atoms) for atoms in each]) for each in (reference, other)]
    if all(np.isfinite(each).any() for each in energies):
        known = energies[0][np.isfinite(energies[0])]
        limit = known.max() + (np.inf if kT is None else 10.0 * kT)
        good = np.isfinite(energies[1]) & (energies[1] <= limit)
        if not good.all():
            lost = int((~good).sum())
            notes.append(f"{lost} of {len(other)} structures have no valid energy, and do not count in energies")
        if weights is not None and not weights[good].any():
            notes.append("no structure with a valid energy has a weight, so that energies are left out")
        elif good.any():
            weights = None if weights is None else weights[good]
            add("energy", "W1 [eV]", wasserstein, known[:, None], energies[1][good][:, None])
            add("energy", "TV", partial(total_variation, bins=ENERGY_BINS), known[:, None], energies[1][good][:, None])
            shift = np.average(energies[1][good], weights=weights) - known.mean()
            n = good.sum() if weights is None else effective_sample_size(weights)
            noise = known.std() * np.sqrt(1.0 / n + 1.0 / len(known))
            rows.append(Row("mean energy", "shift [eV]", float(shift), float(noise)))
        rows.append(Row("structures", "valid", float(good.mean())))
    if _weights(reference) is not None:
        notes.append("the weights of the reference are not used; give weighted structures as the other set")
    if weights is not None:
        notes.append("the weights of the structures are used; their noise is that of the effective number of samples")
    return Comparison(len(reference), len(other), rows, notes)


def compare_conformers(reference: Any, generated: Any, threshold: float = 0.5) -> Comparison:  # noqa: ANN401
    """Compare two sets of conformers of one molecule by their RMSDs over symmetries, hydrogens on carbon left out.

    Stereoisomers of one molecule are compared like its conformers: an ensemble with open stereo holds several.

    Args:
        reference: RDKit's molecule with conformers, or the path of a file of them.
        generated: The same molecule with other conformers.
        threshold: RMSD below which a conformer counts as found, Angstrom.

    Raises:
        OptionError: There are no conformers, or the molecules differ.
    """
    from mlff_calc.datasets.molecules import Molecule, have_same_bonds, read_molecules
    from mlff_calc.sampling.symmetry import best_rmsd

    sets = [[each] if isinstance(each, Molecule) else read_molecules(each) for each in (reference, generated)]
    one = sets[0][0]
    for other in (*sets[0][1:], *sets[1]):
        if one.numbers != other.numbers:
            raise OptionError(f"{one.name} and {other.name} hold different atoms or another order; give one molecule")
        if not have_same_bonds(one.mol, other.mol):
            raise OptionError(f"{one.name} and {other.name} have different bonds or another order; give one molecule")
    places = [[c.GetPositions() for each in some for c in each.mol.GetConformers()] for some in sets]
    if not all(places):
        raise OptionError("there are no conformers to compare")
    distances = np.array([[best_rmsd(one, a, b) for b in places[1]] for a in places[0]])
    found = coverage(distances, threshold)
    rows = [Row(f"within {threshold:g} A" if name[:3] == "COV" else "RMSD", name, value) for name, value in found.items()]
    return Comparison(len(places[0]), len(places[1]), rows)


def _common_numbers(structures: Sequence[Atoms]) -> NDArray[np.int64]:
    if not structures:
        raise OptionError("there are no structures to compare")
    for k, (one, other) in enumerate(pairwise(structures)):
        if len(one) != len(other) or (one.numbers != other.numbers).any():
            raise OptionError(f"structure {k + 1} holds {other.get_chemical_formula()}, and the one before "
                              f"{one.get_chemical_formula()}, or another order; give one molecule")  # fmt: skip
    return np.array(structures[0].numbers, dtype=np.int64)


def _energy(atoms: Atoms) -> float:
    """Energy of a structure, eV; NaN where it has none."""
    if "energy" in atoms.info:
        return float(atoms.info["energy"])
    if atoms.calc is not None and atoms.calc.results.get("energy") is not None:
        return float(atoms.calc.results["energy"])
    return float("nan")


def _weights(structures: Sequence[Atoms]) -> FloatArray | None:
    if not all("weight" in atoms.info for atoms in structures):
        return None
    weights = np.array([float(atoms.info["weight"]) for atoms in structures])
    return weights / weights.sum() if weights.sum() > 0.0 else None
