"""The recipe of a network for Fock matrices: matrices, network and loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_limits import refuse_compile, refuse_mixed
from mlff_calc.training.recipe_section import Section


class FlowSection(Section):
    """Flow matching: the network is trained on states between noise and the matrix, and predicts in a few steps."""

    prior: Literal["goe", "expansion"] = "expansion"
    """Noise: independent normal entries, or irreducible features of degrees up to 2 that are expanded to blocks."""
    steps: int = Field(3, ge=1, le=1000)
    """Number of steps of a prediction."""
    size: float = Field(1.0, gt=0.0)
    """Size of the noise, in units of the scales of the matrices."""


class HamiltonianSection(Section):
    """Architecture; means and scales of blocks are measured on the training molecules."""

    fine_tune_from: str | None = None
    """Name or path of a network to fine-tune, whose architecture, means and scales stay; no other key may stand here."""
    target: Literal["initial", "means"] = "initial"
    """Reference of the prediction: the Fock matrix of the initial density (one Fock build for each prediction), or means by
    element."""
    inputs: list[Literal["overlap", "initial"]] = Field(default_factory=list)
    """Matrices that the network reads besides the geometry."""
    l_max: int = Field(4, ge=1, le=8)
    """Highest degree of features; twice the highest degree of orbitals loses no part of a block."""
    channels: int = Field(24, ge=1, le=4096)
    """Channels of features of atoms, for each parity."""
    hidden: int = Field(48, ge=1, le=4096)
    """Width of features of pairs."""
    products: int = Field(16, ge=0, le=4096)
    """Width of SO(2) tensor products; 0 for none."""
    product_target: Literal["atoms", "pairs"] = "atoms"
    """Use of the products: for atoms and pairs, or for pairs only."""
    layers: int = Field(3, ge=1, le=64)
    """Number of layers."""
    scalars: int = Field(32, ge=1, le=4096)
    """Number of scalars of a pair."""
    n_basis: int = Field(16, ge=1, le=1024)
    """Number of radial functions."""
    cutoff: float = Field(6.0, gt=0.0)
    """Longest distance of messages [Angstrom]."""
    pair_cutoff: float = Field(10.0, gt=0.0)
    """Longest distance of predicted blocks, which fade out there [Angstrom]."""
    flow: FlowSection | None = None
    """Flow matching; null for regression."""

    @model_validator(mode="after")
    def _can_be_built(self) -> HamiltonianSection:
        """Check ranges, which only the parts know, by describing a network of hydrogen."""
        from mlff_calc.electronic.hamiltonian.build import resolve_hamiltonian

        others = sorted(self.model_fields_set - {"fine_tune_from"})
        if self.fine_tune_from is not None and others:
            raise ValueError(f"fine_tune_from keeps the architecture of its network; leave out {', '.join(others)}")
        resolve_hamiltonian(self.config() | {"basis": {"name": "", "shells": {"1": [0]}}})
        return self

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_hamiltonian`, without what is measured on the data."""
        return self.model_dump(exclude={"fine_tune_from", "flow"}) | {"flow": self.flow.model_dump() if self.flow else {}}


class MatrixSplit(Section):
    """Parts of the file, drawn at random: counts (50) or shares (0.1)."""

    train: int | float | None = Field(None, ge=0)
    """Molecules of the training; null for all that are left."""
    valid: int | float = Field(0.1, ge=0)
    """Molecules of the validation."""
    test: int | float = Field(0.1, ge=0)
    """Molecules of the test; 0 for none."""
    seed: int = Field(0, ge=0)
    """Seed of the draw."""


class MatrixData(Section):
    """A file of molecules with converged Fock matrices."""

    file: str
    """Path of the file, relative to the recipe (`mlff data hamiltonian` makes one)."""
    format: Literal["mlff", "npz", "qh9", "schnorb"] | None = None
    """Format of the file; null for HDF5 and npz, which the name tells."""
    xc: str | None = None
    """Functional of matrices in npz or QH9, which do not say it."""
    basis: str | None = None
    """Basis of matrices in npz, which does not say it."""
    order: Literal["ours", "pyscf", "orca"] = "pyscf"
    """Order of the orbitals in npz."""
    split: MatrixSplit = MatrixSplit()
    """Parts of the file."""


class MatrixLoss(Section):
    """Weights of the terms, which are means over the entries of a molecule, then over molecules."""

    mae: float = Field(1.0, ge=0.0)
    """Weight of absolute errors [1/Hartree]."""
    mse: float = Field(1.0, ge=0.0)
    """Weight of squared errors [1/Hartree^2]."""
    orbital_energies: float = Field(0.0, ge=0.0)
    """Weight of absolute errors of energies of the occupied orbitals and the lowest empty one, to first order: the
    diagonal of C^T (H - H_ref) C with the orbitals C of the reference [1/Hartree]."""

    @model_validator(mode="after")
    def _is_a_loss(self) -> MatrixLoss:
        if self.mae == self.mse == 0.0:
            raise ValueError("`mae` and `mse` are both 0, so that matrices are not learnt; give one of them a weight")
        return self


class HamiltonianRecipe(TrainingRecipe):
    """Recipe of a network for Fock matrices. Create it with `load_recipe` or `parse_recipe`."""

    hamiltonian: HamiltonianSection = HamiltonianSection()
    """Architecture."""
    data: MatrixData
    """Molecules with matrices."""
    loss: MatrixLoss = MatrixLoss()
    """Weights of the loss."""

    def with_paths(self, change: Callable[[str], str]) -> dict[str, Any]:
        """Also change the path of the network to start from."""
        raw, name = super().with_paths(change), self.hamiltonian.fine_tune_from
        if name is not None:
            raw["hamiltonian"]["fine_tune_from"] = self.with_network(name, "hamiltonian", change)
        return raw

    def start(self) -> Path | str:
        """Return the network that `fine_tune_from` names; see `network_named`."""
        return self.network_named(str(self.hamiltonian.fine_tune_from), "hamiltonian")

    @model_validator(mode="after")
    def _can_be_trained(self) -> HamiltonianRecipe:
        refuse_mixed(self.trainer, "networks for Fock matrices")
        refuse_compile(self.trainer, "networks for Fock matrices")
        return self
