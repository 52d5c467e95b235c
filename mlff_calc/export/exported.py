"""Exported files in Python: loading, and calling them with a graph like the original potential."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlff_calc.errors import ConvergenceError, OptionError, PotentialFileError
from mlff_calc.export.archive import read_content
from mlff_calc.export.metadata import check_content, metadata_of
from mlff_calc.export.own import require_own
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.heads.uncertainty import ENERGY_STD, FORCES_STD
from mlff_calc.potential.engine import COLD, CONTINUE
from mlff_calc.potential.model import cell_volume


def load_function(content: bytes, backend: str) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    """Load the function of tensors in a file's content. Its code can run, so the content must be checked before."""
    if backend == "aoti":
        with tempfile.TemporaryDirectory(prefix="mlff-") as folder, torch.inference_mode(False):
            file = Path(folder) / "potential.pt2"
            file.write_bytes(content)
            package = torch._inductor.aoti_load_package(str(file))  # noqa: SLF001 - torch's documented way
        return lambda tensors: package(*tensors)
    script = torch.jit.load(io.BytesIO(content))

    def run(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():  # the gradient is inside
            return script(*tensors)

    return run


def load_exported(path: str | Path, trust: bool = False) -> ExportedPotential:
    """Load a file written by `mlff export`. Loading runs code, including anything its writer put there.

    Args:
        path: exported file.
        trust: whether to open a file that this user did not export on this machine (see docs/what_you_may_load.md).

    Raises:
        PotentialFileError: the file does not exist, is not an export, is damaged, of a newer format or of another
            PyTorch (AOTInductor), or is somebody else's and not trusted.
        CacheError: the list of this user's exports belongs to another user, or others can write it.
    """
    path = Path(path)
    content = read_content(path)
    return ExportedPotential(path, content, trust=trust)


class ExportedPotential:
    """Potential loaded by `load_exported`: maps a graph to the outputs of `Potential`.

    A fixed point is solved from scratch at every call, so that results depend only on the structure.

    Attributes:
        metadata: record of the file.
        elements: atomic numbers.
        cutoff: cutoff radius, Angstrom.
        precision: precision of the export.
        domain: distances in the training data; None where the file has none.
        uncertainties: names of the standard deviations among the outputs; files for LAMMPS have those of forces where there
            is a threshold for them, and no others.
    """

    direct_forces = False

    def __init__(self, path: Path, content: bytes, trust: bool = False) -> None:
        self.path, self.metadata = Path(path), metadata_of(path, content)
        metadata = self.metadata
        self.elements, self.cutoff, self.precision = metadata.elements, metadata.cutoff, metadata.precision
        self.domain = metadata.domain
        self.uncertainties = tuple(name for name in (ENERGY_STD, FORCES_STD) if name in metadata.outputs)
        check_content(path, content, metadata)
        if metadata.backend == "aoti" and metadata.torch != torch.__version__:
            raise PotentialFileError(
                f"{path} was compiled with PyTorch {metadata.torch} but this is {torch.__version__}: export it again"
            )
        if metadata.members is None and not trust:
            raise PotentialFileError(
                f"{path} is of format version 1, which has no checksums: export it again, or trust it "
                "(trust=True, --trust)"
            )
        if not trust:
            require_own(path, content)
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._load(content)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file that was loaded."""
        return self._sha256

    def _load(self, content: bytes) -> None:
        try:
            self._run = load_function(content, self.metadata.backend)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise PotentialFileError(f"{self.path} cannot be loaded ({first}); export it again") from error

    def to_precision(self, precision: str) -> ExportedPotential:
        """Return this potential if it has that precision.

        Raises:
            OptionError: the file was exported in another precision.
        """
        if precision != self.precision:
            raise OptionError(
                f"{self.path} was exported in {self.precision} and cannot be used in {precision}: ask for "
                f"precision={self.precision!r}, or export it again"
            )
        return self

    def to(self, device: torch.device) -> ExportedPotential:
        """Return this potential if it is for that device.

        Raises:
            OptionError: the file was exported for another device.
        """
        if torch.device(device).type != self.metadata.device:
            raise OptionError(
                f"{self.path} was exported for {self.metadata.device}, not for {device}; "
                f"use device={self.metadata.device!r}"
            )
        return self

    def eval(self) -> ExportedPotential:
        """Return this potential, which has no other mode."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> ExportedPotential:
        """Return this potential, whose weights are constants."""
        del requires_grad
        return self

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs of `Potential.forward` for a graph of one system; see there for shapes and units.

        Raises:
            OptionError: the graph is a batch of several systems.
            ConvergenceError: a fixed point was not found.
        """
        if graph["cell"].shape[0] != 1:
            raise OptionError(f"an exported potential takes one system at a time, not {graph['cell'].shape[0]}")
        n_atoms = graph["atomic_numbers"].shape[0]
        inputs = self._inputs(graph)
        out = self._solved(inputs) if self.metadata.fixed_point else self._call(inputs)
        energies = out["energies"][:n_atoms]
        found = {"energy": energies.sum().view(1), "energies": energies, "forces": out["forces"][:n_atoms]}
        if "atomic_virial" in out:
            atomic = out["atomic_virial"][:n_atoms]
            virial, volume = atomic.sum(dim=0).unsqueeze(0), cell_volume(graph["cell"]).view(-1, 1, 1)
            stress = torch.where(volume > 0.0, -virial / volume.clamp(min=1e-30), torch.zeros_like(virial))
            found |= {"virial": virial, "atomic_virial": atomic, "stress": stress}
        if ENERGY_STD in out:
            share = n_atoms / inputs["atomic_numbers"].shape[0]  # below 1 with copies, see `_inputs`
            found[ENERGY_STD] = share * out[ENERGY_STD]
        if FORCES_STD in out:
            found[FORCES_STD] = out[FORCES_STD][:n_atoms]
        return found | {name: out[name] for name in ("residuals", "evaluations") if name in out}

    def _inputs(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Build the inputs of the file. Distant copies of its atoms are added to a graph that is too small for it.

        As copies without neighbours they leave means over atoms as they are.
        """
        numbers, edge_index, edge_vec = graph["atomic_numbers"], graph["edge_index"], graph["edge_vec"]
        n_atoms = numbers.shape[0]
        if n_atoms < 2 or edge_index.shape[1] < 2:
            copies = numbers if n_atoms > 1 else numbers.repeat(2) if n_atoms else numbers.new_full((2,), self.elements[0])
            numbers = torch.cat([numbers, copies])
            pair = edge_index.new_tensor([[n_atoms, n_atoms + 1], [n_atoms + 1, n_atoms]])
            apart = edge_vec.new_tensor([[2.0 * self.cutoff, 0.0, 0.0], [-2.0 * self.cutoff, 0.0, 0.0]])
            edge_index, edge_vec = torch.cat([edge_index, pair], dim=1), torch.cat([edge_vec, apart])
        owned = edge_vec.new_zeros(numbers.shape[0])
        owned[:n_atoms] = 1.0
        return {
            "atomic_numbers": numbers,
            "node_numbers": numbers,
            "system_index": torch.zeros_like(numbers),
            "edge_index": edge_index.contiguous(),
            "edge_vec": edge_vec.contiguous(),
            "cell": graph["cell"],
            "owned": owned,
        }

    def _call(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        found = self._run([inputs[name] for name in self.metadata.inputs])
        if len(found) != len(self.metadata.outputs):
            raise PotentialFileError(
                f"{self.path} returns {len(found)} tensors, but its record names {len(self.metadata.outputs)}: it was "
                "changed; export it again"
            )
        return dict(zip(self.metadata.outputs, found, strict=True))

    def _solved(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Repeat the step from a cold start until both residuals are below the tolerance.

        Raises:
            ConvergenceError: the residuals stay above the tolerance.
        """
        facts: dict[str, Any] = self.metadata.fixed_point or {}
        dtype = torch.float64 if self.metadata.dtype == "float64" else torch.float32
        device = inputs["edge_vec"].device
        shape = (inputs["atomic_numbers"].shape[0], facts["slots"], facts["width"])
        memory = torch.zeros(shape, dtype=dtype, device=device)
        mode, residuals, warm = COLD, [], WarmStart.of_record(facts)
        for count in range(1, facts["max_repeats"] + 1):
            numbers = [mode, facts["fit_ridge"], facts["ridge"], facts["cold_tolerance"]]
            control = torch.tensor(numbers, dtype=torch.float64, device=device)
            out = self._call({**inputs, "memory": memory, "control": control})
            worst = float(out["residuals"].max())
            if worst < facts["cold_tolerance"]:
                out["evaluations"] = torch.tensor([count * facts["n_forward"], count * facts["n_adjoint"]])
                return out
            residuals.append(worst)
            if not warm.goes_on(residuals, cold=True):
                break
            memory, mode = out["memory"], CONTINUE
        raise ConvergenceError(
            f"the fixed point of this structure was not found to a relative residual of {facts['cold_tolerance']:g}: the "
            f"solve ends at {residuals[-1]:.2g}. The structure is probably far from the potential's training data; look "
            "at this frame",
            residuals,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the loaded function."""
        return {key: value for key, value in self.__dict__.items() if key != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, and load the file again.

        Raises:
            PotentialFileError: the file has changed.
        """
        self.__dict__.update(state)
        content = read_content(self.path)
        if hashlib.sha256(content).hexdigest() != self._sha256:
            raise PotentialFileError(f"{self.path} has changed since it was loaded; load it again")
        self._load(content)
