"""Training and evaluation of networks for Fock matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, build_hamiltonian
from mlff_calc.training.hamiltonian.build import new_network, start_from
from mlff_calc.training.hamiltonian.data import MatrixBatches, read_parts
from mlff_calc.training.hamiltonian.evaluate import (
    BATCH_SIZE,
    HamiltonianReport,
    evaluate_hamiltonian,
    evaluate_hamiltonian_file,
)
from mlff_calc.training.hamiltonian.example import EXAMPLE_HAMILTONIAN_RECIPE
from mlff_calc.training.hamiltonian.files import MatrixFrames
from mlff_calc.training.hamiltonian.objective import HamiltonianObjective
from mlff_calc.training.hamiltonian.predictor import HamiltonianPredictor
from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe
from mlff_calc.training.one_file import OneFileTask
from mlff_calc.training.task import Outcome, Prepared


class HamiltonianTask(OneFileTask[HamiltonianRecipe, MatrixFrames]):
    """Networks for Fock matrices, trained on molecules with converged ones.

    Attributes:
        build: Function from configuration and `seed` to a network.
    """

    name = "hamiltonian"
    recipe = HamiltonianRecipe
    example = EXAMPLE_HAMILTONIAN_RECIPE
    items = "molecules"
    advice = "Look for a matrix that did not converge, or atoms that are very near"
    options = frozenset({"part", "limit", "format"})
    build: ClassVar[Callable[..., HamiltonianNetwork]] = staticmethod(build_hamiltonian)
    predictions = frozenset({"energy", "matrices", "cube"})

    def read(self, recipe: HamiltonianRecipe) -> dict[str, MatrixFrames]:
        """Read the molecules by part."""
        return read_parts(recipe)

    def place(self, samples: MatrixFrames, number: int) -> str:
        """Return file and frame of a sample."""
        return samples.place(number)

    def prepare(self, recipe: HamiltonianRecipe, parts: Mapping[str, MatrixFrames]) -> Prepared:
        """Build a new network, with means and scales measured on its training molecules, or load one to fine-tune."""
        if recipe.hamiltonian.fine_tune_from is None:
            network = new_network(recipe, parts["train"], self.build)
        else:
            network = start_from(recipe, parts["train"])
        orbitals = recipe.loss.orbital_energies > 0.0
        return Prepared(
            network,
            HamiltonianObjective(recipe.loss, network),
            MatrixBatches(parts["train"], network, orbitals=orbitals).source(),
            MatrixBatches(parts["valid"], network, orbitals=orbitals).source(),
            self.bad_batch(parts),
            self.table(parts),
        )

    def judge(self, recipe: HamiltonianRecipe, network: HamiltonianNetwork, samples: MatrixFrames) -> HamiltonianReport:
        """Compute the errors of matrices and of what follows from them."""
        return evaluate_hamiltonian(network, samples, batch_size=recipe.optimizer.judging_size)

    def card(self, outcome: Outcome[HamiltonianRecipe, MatrixFrames]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.hamiltonian.card import write_card

        return write_card(outcome)

    def provenance(self, recipe: HamiltonianRecipe, parts: Mapping[str, MatrixFrames]) -> dict[str, Any]:
        """Return how the file was cut into parts."""
        del parts
        return {"reading": {"split": recipe.data.split.model_dump()}}

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        part: str | None = None,
        limit: int | None = None,
        format: str | None = None,
        **asked: Any,  # noqa: ANN401
    ) -> HamiltonianReport:
        """See `evaluate_hamiltonian_file`.

        Raises:
            OptionError: More than one file is given, or an unknown part.
        """
        del asked
        return evaluate_hamiltonian_file(
            model, self.one_of(data, part), part=part, limit=limit, format=format, batch_size=batch_size or BATCH_SIZE,
            device=device, precision=precision or "float32",
        )  # fmt: skip

    def predictor(
        self,
        model: str,
        *,
        device: str = "auto",
        precision: str | None = None,
        energy: bool = False,
        matrices: Path | None = None,
        cube: Sequence[str] = (),
        **asked: Any,  # noqa: ANN401
    ) -> HamiltonianPredictor:
        """See `HamiltonianPredictor`."""
        del asked
        return HamiltonianPredictor(
            model, device=device, precision=precision, energy=energy, matrices=matrices, cube=cube
        )
