"""A weighted ensemble of conformers of one molecule."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff_calc.datasets.molecules import Molecule, rdkit_chem
from mlff_calc.sampling.duplicates import KCAL
from mlff_calc.sampling.identity import with_positions
from mlff_calc.sampling.modes import SADDLE
from mlff_calc.sampling.symmetry import MAX_MATCHES, best_rmsd, is_cut_off
from mlff_calc.sampling.systems import FloatArray
from mlff_calc.sampling.weights import ensemble_entropy

if TYPE_CHECKING:
    from rdkit.Chem import Mol


@dataclass(frozen=True)
class Counts:
    """What became of all structures that were tried.

    Attributes:
        generated: Number of starting structures.
        failed: Number that the calculator could not evaluate.
        unconverged: Number that took all steps and did not reach the force asked for; they are kept, and marked.
        changed: Number that changed their bonds or stereo; they are left out.
        duplicates: Number that were equal to a lower one, or to its mirror image.
        saddles: Number that were saddle points; both ways down from each were relaxed in its place.
        outside: Number above the window of energy.
        mirrored: Number of conformers that are mirror images of others: they have the same energies, without a relaxation.
    """

    generated: int = 0
    failed: int = 0
    unconverged: int = 0
    changed: int = 0
    duplicates: int = 0
    saddles: int = 0
    outside: int = 0
    mirrored: int = 0


@dataclass(frozen=True)
class Ensemble:
    """Conformers by rising energy (with `free_energies`, by these).

    Attributes:
        molecule: Bonds, stereo and charge.
        positions: [n_conformers, n_atoms, 3] Angstrom.
        energies: [n_conformers] eV.
        weights: Boltzmann weights [n_conformers] at `temperature`; they add up to one.
        temperature: K.
        converged: Whether the relaxation reached its force [n_conformers].
        fmax: Largest force on an atom [n_conformers], eV/Angstrom.
        sources: Origins of the initial positions of each.
        calculator: Name of the calculator of the energies.
        seed: Seed of the search.
        free_energies: [n_conformers] eV, by which they are weighted; None where by energies.
        weighted_by: Quantity in the weights: `energy`, or free energies by `torsions` or `rrho`.
        symmetry_numbers: Number of rotations that leave each as it is [n_conformers]; its weight is divided by it.
        lowest_modes: Frequency of the softest mode [n_conformers], 1/cm, negative at a saddle point, NaN where it
            is not known; None if not looked for.
        counts: Numbers of other structures by outcome.
        problems: Reasons of failures and changes, each once with the number of structures.
        outside: Parts of sentences about what of the conformers a potential was not trained on.
        finished: Whether the search went to its end; False where a budget of time ended it.
    """

    molecule: Molecule
    positions: FloatArray
    energies: FloatArray
    weights: FloatArray
    temperature: float
    converged: NDArray[np.bool_]
    fmax: FloatArray
    sources: list[str]
    calculator: str
    seed: int
    free_energies: FloatArray | None = None
    weighted_by: str = "energy"
    symmetry_numbers: NDArray[np.int64] | None = None
    lowest_modes: FloatArray | None = None
    counts: Counts = field(default_factory=Counts)
    problems: dict[str, int] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    finished: bool = True

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def relative_energies(self) -> FloatArray:
        """Energies above the lowest [n_conformers], kcal/mol."""
        return (self.energies - self.energies.min()) / KCAL

    @property
    def entropy(self) -> float:
        """Entropy of the distribution over conformers, cal/mol/K."""
        return abs(1000.0 * ensemble_entropy(self.weights) / KCAL)

    @cached_property
    def rmsd_to_lowest(self) -> FloatArray:
        """Smallest RMSD to the first conformer [n_conformers], Angstrom."""
        return np.array([best_rmsd(self.molecule, place, self.positions[0]) for place in self.positions])

    @property
    def weight_name(self) -> str:
        """Name of the weights as a property, such as `weight_298K` or `weight_298K_rrho`."""
        return f"weight_{self.temperature:.0f}K" + ("" if self.free_energies is None else f"_{self.weighted_by}")

    def rows(self) -> list[dict[str, Any]]:
        """One dict of plain values per conformer: what stands in SDF, extxyz and CSV."""
        rmsd, relative = self.rmsd_to_lowest, self.relative_energies
        rows = []
        for k in range(len(self)):
            row: dict[str, Any] = {
                "conformer": k + 1,
                "energy_kcal_mol": round(float(self.energies[k]) / KCAL, 6),
                "relative_energy": round(float(relative[k]), 4),
                self.weight_name: round(float(self.weights[k]), 6),
                "converged": bool(self.converged[k]),
                "fmax_eV_A": round(float(self.fmax[k]), 5),
                "rmsd_to_lowest": round(float(rmsd[k]), 4),
                "source": self.sources[k],
                "seed": self.seed,
                "calculator": self.calculator,
            }
            if self.symmetry_numbers is not None:
                row["symmetry_number"] = int(self.symmetry_numbers[k])
            if self.lowest_modes is not None:
                row["lowest_mode_per_cm"] = round(float(self.lowest_modes[k]), 1)
            if self.free_energies is not None:
                above = (self.free_energies[k] - self.free_energies.min()) / KCAL
                row["relative_free_energy"] = round(float(above), 4)
            rows.append(row)
        return rows

    def to_ase(self) -> list[Atoms]:
        """The conformers as ASE's atoms; `info` holds the values of `rows`, and the charge where there is one."""
        charge = {"charge": self.molecule.charge} if self.molecule.charge else {}
        return [
            Atoms(self.molecule.numbers, place, info={"name": self.molecule.name, **charge, **row})
            for place, row in zip(self.positions, self.rows(), strict=True)
        ]

    def to_rdkit(self) -> Mol:
        """RDKit's molecule with all conformers, in order, and without the properties of its source."""
        chem = rdkit_chem()
        mol = chem.Mol(self.molecule.mol)
        for name in mol.GetPropNames():
            mol.ClearProp(name)
        mol.RemoveAllConformers()
        for place in self.positions:
            conformer = with_positions(self.molecule, place).GetConformer()
            mol.AddConformer(chem.Conformer(conformer), assignId=True)
        return mol

    def summary(self) -> str:
        """What was found, in a few lines."""
        counts = self.counts
        lines = [
            f"{self.molecule.name}: {len(self)} conformers within {self.relative_energies.max():.2f} kcal/mol "
            f"by {self.calculator}, entropy {self.entropy:.2f} cal/mol/K at {self.temperature:g} K",
            f"{counts.generated} structures tried: {counts.duplicates} equal to others, {counts.saddles} saddle points, "
            f"{counts.outside} above the window, {counts.changed} changed bonds or stereo, {counts.failed} failed; "
            f"{counts.unconverged} not converged; {counts.mirrored} of the conformers are mirror images of others",
        ]
        lines += [f"  {text} ({number} times)" for text, number in sorted(self.problems.items(), key=lambda i: -i[1])[:5]]
        return "\n".join(lines + self.warnings())

    def warnings(self) -> list[str]:
        """What a reader of the ensemble must know, as sentences."""
        found, places = [], self.molecule.open_stereo
        if places:
            found.append(
                f"The stereo of {', '.join(places)} is not specified: conformers of all stereoisomers stand in one ensemble."
            )
        if self.outside:
            found.append(
                f"The potential was not trained on such conformers ({'; '.join(self.outside)}): energies are a guess there. "
                "Compare with --rescore gfn2-xtb, or train on such structures."
            )
        if self.lowest_modes is not None:
            saddles, unknown = int((self.lowest_modes < SADDLE).sum()), int(np.isnan(self.lowest_modes).sum())
            if saddles:
                found.append(
                    f"{saddles} of the conformers are saddle points and no minima (lowest_mode_per_cm below {SADDLE:g}), "
                    "and count in the weights."
                )
            if unknown:
                found.append(f"{unknown} of the conformers may be saddle points: their softest modes are not known.")
        if is_cut_off(self.molecule):
            found.append(
                f"The molecule has more than {MAX_MATCHES} symmetries, and no others are looked at: conformers may "
                "stand twice, and symmetry numbers may be too small."
            )
        if not self.finished:
            found.append("The budget of time ended the search before its end.")
        return found
