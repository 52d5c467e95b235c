"""An exported file in Python: loaded, and called with a graph like the potential it was made from."""

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
from mlff_calc.potential.engine import COLD, CONTINUE
from mlff_calc.potential.model import cell_volume


def load_function(content: bytes, backend: str) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    """The function of tensors that the content of a file holds; it runs as code, so it has to be checked before."""
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
    """Load a file written by `mlff export`, for Python. Its code runs, and with it whatever its writer put there.

    Args:
        path: of the file.
        trust: open it although it is not one that this user exported on this machine (see docs/what_you_may_load.md).

    Raises:
        PotentialFileError: no such file, not one of ours, damaged, of a newer format or another PyTorch (AOTInductor), or
            of somebody else and not trusted.
        CacheError: the record of what this user exported belongs to another user, or can be written by others.
    """
    path = Path(path)
    content = read_content(path)
    return ExportedPotential(path, content, trust=trust)


class ExportedPotential:
    """What `load_exported` gives: a graph in, the outputs of `Potential` out.

    A fixed point is solved from scratch at every call, so that results depend on the structure alone.

    Attributes:
        metadata: what the file says of itself. elements: atomic numbers. cutoff: Angstrom. precision: as exported.
        domain: distances of the training data, None where the file has none.
    """

    direct_forces = False

    def __init__(self, path: Path, content: bytes, trust: bool = False) -> None:
        self.path, self.metadata = Path(path), metadata_of(path, content)
        metadata = self.metadata
        self.elements, self.cutoff, self.precision = metadata.elements, metadata.cutoff, metadata.precision
        self.domain = metadata.domain
        check_content(path, content, metadata)
        if metadata.backend == "aoti" and metadata.torch != torch.__version__:
            raise PotentialFileError(
                f"{path} was compiled with PyTorch {metadata.torch} and this is {torch.__version__}: export it again"
            )
        if metadata.members is None and not trust:
            raise PotentialFileError(
                f"{path} is of format version 1, which has no checksums: export it again, or say that you trust it "
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
        """Itself, if that is its precision.

        Raises:
            OptionError: it was exported in another one.
        """
        if precision != self.precision:
            raise OptionError(
                f"{self.path} was exported in {self.precision} and cannot be used in {precision}: ask for "
                f"precision={self.precision!r}, or export it again"
            )
        return self

    def to(self, device: torch.device) -> ExportedPotential:
        """Itself, if that is its device.

        Raises:
            OptionError: it was exported for another one.
        """
        if torch.device(device).type != self.metadata.device:
            raise OptionError(
                f"{self.path} was exported for {self.metadata.device}, not for {device}; "
                f"use device={self.metadata.device!r}"
            )
        return self

    def eval(self) -> ExportedPotential:
        """Itself; there is no other mode."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> ExportedPotential:
        """Itself; weights are constants."""
        del requires_grad
        return self

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of `Potential.forward` for a graph of one system; see there for shapes and units.

        Raises:
            OptionError: a batch of several systems.
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
        return found | {name: out[name] for name in ("residuals", "evaluations") if name in out}

    def _inputs(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inputs of the file, with two atoms far from each other beside those of a graph that is too small for it."""
        numbers, edge_index, edge_vec = graph["atomic_numbers"], graph["edge_index"], graph["edge_vec"]
        n_atoms = numbers.shape[0]
        if n_atoms < 2 or edge_index.shape[1] < 2:
            numbers = torch.cat([numbers, numbers.new_full((2,), self.elements[0])])
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
                f"{self.path} gives {len(found)} tensors, and what it says of itself names {len(self.metadata.outputs)}: "
                "its record was changed; export it again"
            )
        return dict(zip(self.metadata.outputs, found, strict=True))

    def _solved(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The step from a cold start, made again until both residuals are below the tolerance.

        Raises:
            ConvergenceError: they stay above.
        """
        facts: dict[str, Any] = self.metadata.fixed_point or {}
        dtype = torch.float64 if self.metadata.dtype == "float64" else torch.float32
        device = inputs["edge_vec"].device
        shape = (inputs["atomic_numbers"].shape[0], facts["slots"], facts["width"])
        memory = torch.zeros(shape, dtype=dtype, device=device)
        mode, residuals, warm = COLD, [], WarmStart.of_record(facts)
        for count in range(1, facts["max_repeats"] + 1):
            control = torch.tensor([mode, facts["fit_ridge"], facts["ridge"], 0.0], dtype=torch.float64, device=device)
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
            f"solve ends at {residuals[-1]:.2g}. The structure is probably far from what the potential was trained on; look "
            "at this frame",
            residuals,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the loaded function."""
        return {key: value for key, value in self.__dict__.items() if key != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, and load the file again.

        Raises:
            PotentialFileError: it is not the file that was loaded before.
        """
        self.__dict__.update(state)
        content = read_content(self.path)
        if hashlib.sha256(content).hexdigest() != self._sha256:
            raise PotentialFileError(f"{self.path} has changed since it was loaded; load it again")
        self._load(content)
