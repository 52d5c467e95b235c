"""A property of the frames of a file, for `mlff predict`."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from mlff_calc.datasets import Sample
from mlff_calc.device import resolve_device
from mlff_calc.properties import load_property
from mlff_calc.training.predict import FramePrediction, Predictor


class PropertyPredictor(Predictor):
    """A property network.

    Each frame gets `predicted_NAME`, `predicted_NAME_std` and quantiles such as `predicted_NAME_q0.05`.

    Args:
        model: Folder of the network.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32` or `float64`; None for float32.

    Raises:
        PotentialFileError: There is no such network.
        OptionError: The device or precision is not available.
    """

    def __init__(self, model: str, *, device: str = "auto", precision: str | None = None) -> None:
        self.network = load_property(model).to_precision(precision or "float32").to(resolve_device(device)).eval()

    def check(self, atoms: Atoms) -> None:
        """Refuse elements, charges and isotopes that the network does not know."""
        self.network.check(atoms)

    def predict(self, samples: Sequence[Sample]) -> list[FramePrediction]:
        """Mean, standard deviation and quantiles of each frame."""
        found = []
        for one in self.network.predict_many([sample.atoms for sample in samples]):
            name = f"predicted_{one.name}"
            quantiles = {f"{name}_q{level:g}": value for level, value in one.quantiles.items()}
            found.append(FramePrediction(info={name: one.mean, f"{name}_std": one.std, **quantiles}))
        return found
