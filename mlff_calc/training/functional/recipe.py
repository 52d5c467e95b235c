"""The recipe of a learned functional: energies, network, and rounds of self-consistent densities."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mlff_calc.errors import RecipeError
from mlff_calc.training.frames.recipe import FrameLoss, FramesRecipe
from mlff_calc.training.recipe_base import TrainerSection
from mlff_calc.training.recipe_section import Section


class FunctionalSection(Section):
    """Architecture; elements and constants come from the training frames."""

    base: Literal["lda", "pbe", "r2scan"] = "pbe"
    """Functional that the training starts from; meta-GGAs (r2scan) read the kinetic energy density as well."""
    basis: str = "6-31g*"
    """Basis of PySCF. The functional is for this basis only."""
    grid_level: int = Field(1, ge=0, le=9)
    """Level of PySCF's grids, without pruning; forces need 2 or more."""
    cutoff: float = Field(5.0, gt=0.0)
    """Distance from nuclei at which their functions and messages end [Bohr]."""
    l_max: int = Field(1, ge=0, le=8)
    """Highest degree of features."""
    filters: int = Field(8, ge=1, le=1024)
    """Number of radial functions."""
    channels: int = Field(16, ge=1, le=4096)
    """Number of features per component."""
    layers: int = Field(1, ge=0, le=64)
    """Number of layers of messages between atoms; 0 for none."""
    width: int = Field(16, ge=1, le=4096)
    """Width of perceptrons."""
    reweight: Literal["nonlocal", "local", "none"] = "nonlocal"
    """Weights of the energy density of the base: from the density around, from the density at the point alone, or none."""
    readout: bool = True
    """Switch for energies of atoms beside the weighted energy density."""

    @model_validator(mode="after")
    def _can_be_built(self) -> FunctionalSection:
        """Check ranges, which only the parts know, by describing a network for hydrogen."""
        from mlff_calc.electronic.functional.build import resolve_functional

        try:
            resolve_functional(self.config() | {"elements": [1]})
        except RecipeError as error:
            raise ValueError(str(error)) from error
        if self.reweight == "none" and not self.readout:
            raise ValueError("reweight is none and readout is false, so that nothing is left to train; take one of them")
        return self

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_functional`, without what the data decide."""
        return self.model_dump()


class DensitySection(Section):
    """Rounds: all frames are converged with the present functional, then trained on at these densities."""

    epochs: int = Field(25, ge=1)
    """Number of epochs between two refreshes of the densities."""
    loss: Literal["frozen", "unrolled"] = "frozen"
    """Energies at frozen densities, or of recorded self-consistent fields that begin there (for small molecules)."""
    cycles: int = Field(15, ge=2, le=100)
    """Number of cycles of a recorded field; its last five count, the later the more."""
    workers: int = Field(1, ge=1, le=256)
    """Number of processes of one thread each that converge frames."""
    conv_tol: float = Field(1e-9, ge=1e-14, le=1e-4)
    """Change of energy between cycles at convergence [Hartree]."""
    max_cycle: int = Field(50, ge=1, le=10000)
    """Largest number of cycles of one attempt; the second one shifts levels."""


class EnergyLoss(FrameLoss):
    """Weights of frames in the loss, the mean square error of energies."""

    energy: float = Field(1.0, gt=0.0)
    """Weight of the squared error of energies [1/eV^2]."""
    relative: bool = False
    """Switch for errors of a batch after constants of elements are fitted to them; constants are fitted anew at the end. For
    several molecules: without it, differences between molecules hide those that a functional learns from."""

    def weights(self) -> dict[str, float]:
        """Return the weight of energies; no other label is read."""
        return {"energy": self.energy}


class FunctionalTrainer(TrainerSection):
    """Device, seed and schedule of checks."""

    precision: Literal["float64"] = "float64"
    """Arithmetic; self-consistent fields need float64."""


class FunctionalRecipe(FramesRecipe):
    """Recipe of a learned functional. Create it with `load_recipe` or `parse_recipe`."""

    functional: FunctionalSection = FunctionalSection()
    """Architecture."""
    densities: DensitySection = DensitySection()
    """Refreshes of the densities."""
    loss: EnergyLoss = EnergyLoss()
    """Weights of frames."""
    trainer: FunctionalTrainer = FunctionalTrainer()
    """Device, seed and schedule of checks."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> FunctionalRecipe:
        trainer = self.trainer
        if trainer.compile:
            raise ValueError("trainer.compile is true, and functionals are not compiled for training; set it to false")
        if trainer.n_devices > 1:
            raise ValueError("functionals train on one device; set trainer.n_devices: 1 (densities.workers is for SCFs)")
        if "cycles" in self.densities.model_fields_set and self.densities.loss == "frozen":
            raise ValueError("densities.cycles is for densities.loss: unrolled; leave it out, or choose that loss")
        if self.loss.relative and self.densities.loss == "unrolled":
            raise ValueError("loss.relative needs densities.loss: frozen; recorded fields have no constants to fit anew")
        for name in ("checkpoint_every", "validate_every"):
            if getattr(trainer, name) > self.densities.epochs:
                raise ValueError(
                    f"trainer.{name} is {getattr(trainer, name)}, more than densities.epochs ({self.densities.epochs}); "
                    "lower it, so that each round of densities has one"
                )
        return self
