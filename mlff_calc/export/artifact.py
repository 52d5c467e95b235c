"""A potential as one file for other programs: content, writing, and comparison with the eager potential.

| kind | for | atoms |
|---|---|---|
| `torchscript`, `aoti` | Python (`load_exported`), and any program with libtorch | one structure in one process |
| `lammps` | `pair_style mlff` | an engine's own atoms and its ghosts, with `mlff::exchange` between the layers |

A file holds a function of tensors with the gradient inside, as TorchScript (`.pt`) or AOTInductor (`.pt2`), and the
record `extra/mlff.json`, which is the same for both. Potentials on a fixed point are exported as a step with `memory`
and `control` (potential/engine.py).
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.export.archive import digests_of
from mlff_calc.export.check import ExportError, compare, in_double, probe_graph, probe_rows
from mlff_calc.export.compiled import aoti_package, require_compiler
from mlff_calc.export.exported import load_function
from mlff_calc.export.metadata import (
    BACKENDS,
    ENGINE_INPUTS,
    ENGINE_OUTPUTS,
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    RECORD,
    Metadata,
    check_content,
)
from mlff_calc.export.own import enter
from mlff_calc.export.stepping import ShadowStepping, Stepping
from mlff_calc.export.torchscript import script_of
from mlff_calc.export.trace import INPUTS, output_names, trace_for_use
from mlff_calc.graph.domain import SPREAD
from mlff_calc.heads.uncertainty import FORCES_STD
from mlff_calc.potential import Potential
from mlff_calc.potential.engine import COLD, CONTINUE, PREDICT, EngineStep
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.shadow_engine import AGAIN, ShadowEngineStep


def export_potential(
    potential: Potential,
    path: str | Path,
    *,
    to: str = "torchscript",
    precision: str | None = None,
    device: str | torch.device = "cpu",
    stepping: Stepping | ShadowStepping | None = None,
    overwrite: bool = False,
) -> Metadata:
    """Write a potential to one file, after comparing the file with the eager potential on structures of 8, 11 and 30 atoms.

    For a potential on a fixed point the exported step is compared with the eager step in each of its modes. Ghost atoms
    are not part of the comparison, since only an engine has them.

    Args:
        potential: potential, which is not changed.
        path: file that ends in `.pt` for TorchScript or `.pt2` for AOTInductor (required by `to="aoti"`, allowed by
            `to="lammps"`).
        to: `torchscript`, `lammps` or `aoti`.
        precision: precision to cast to first; the potential's own by default.
        device: device that the file is for, `cpu` or `cuda`.
        stepping: use of the step; required for potentials on a fixed point and for them only.
        overwrite: whether to replace an existing file.

    Returns:
        The record of the file. If the user's list of exported files cannot be written, a warning is logged, and loading
        the file requires trust.

    Raises:
        OptionError: a kind, path or precision does not fit, the potential cannot be exported, or there is no compiler.
        ExportError: the file does not agree with the eager potential; nothing was written.
    """
    path = Path(path)
    backend = _backend_of(to, path, overwrite)
    _check_exportable(potential, to, stepping)
    potential = potential.to_precision(precision or potential.precision).eval().requires_grad_(False)
    potential = potential.to(torch.device(device))
    module: nn.Module = potential if stepping is None else stepping.engine(potential)  # type: ignore[arg-type]
    metadata = _metadata(potential, module, to, backend, stepping)
    example = _example(potential, module, to, 11, seed=1, ghosts=4)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        file = Path(folder) / path.name
        if backend == "aoti":
            require_compiler()
            aoti_package(module, example, metadata.inputs, metadata.outputs, file)
        else:
            script = script_of(trace_for_use(module, example, metadata.inputs, metadata.outputs))
            torch.jit.save(script, str(file))
        metadata = _add_record(file, metadata)
        _compare(potential, module, file, metadata)
        enter(file)
        os.replace(file, path)
    return metadata


def _backend_of(to: str, path: Path, overwrite: bool) -> str:
    """Return the backend of a kind and a path.

    Raises:
        OptionError: kind and path do not fit, or the path cannot be written.
    """
    if to not in KINDS:
        raise OptionError(f"unknown kind of export {to!r}; choose one of {', '.join(KINDS)}")
    backend = BACKENDS.get(path.suffix)
    fitting = {"torchscript": [".pt"], "aoti": [".pt2"], "lammps": [".pt", ".pt2"]}[to]
    if backend is None or path.suffix not in fitting:
        raise OptionError(f"an export to {to} is a file that ends in {' or '.join(fitting)}; {path} does not")
    if not path.parent.is_dir():
        raise OptionError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not overwrite:
        raise OptionError(f"{path} is there already; choose another name, or allow replacing it (--overwrite)")
    return backend


def _check_exportable(potential: Potential, to: str, stepping: Stepping | ShadowStepping | None) -> None:
    """Check that the kind can hold the potential.

    Raises:
        OptionError: a file for LAMMPS has direct forces, or only one of fixed point and `stepping` is given.
    """
    fixed_point = isinstance(potential, FixedPointPotential)
    if potential.direct_forces and (to == "lammps" or fixed_point):
        raise OptionError(
            "forces: direct have no virial and no adjoint, so such a potential is not exported "
            f"{'to LAMMPS' if to == 'lammps' else 'with a fixed point'}; train one with forces: gradient"
        )
    if fixed_point and not (isinstance(stepping, Stepping) and stepping.sizes.window >= 1):
        raise OptionError("a potential on a fixed point is exported as a step that uses earlier steps; give `stepping`")
    if not fixed_point and isinstance(stepping, Stepping):
        raise OptionError("stepping is for potentials on a fixed point; leave it out for this one")
    if isinstance(stepping, ShadowStepping) and potential.fields is None:
        raise OptionError("steps of shadow dynamics are for potentials with fields; leave `stepping` out for this one")


def _metadata(
    potential: Potential, module: nn.Module, to: str, backend: str, stepping: Stepping | ShadowStepping | None
) -> Metadata:
    inputs = list(ENGINE_INPUTS if to == "lammps" else INPUTS)
    outputs = [*(_engine_outputs(potential) if to == "lammps" else output_names(potential))]
    fixed_point = None
    if stepping is not None:
        inputs += ["memory", "control"]
        outputs += ["memory", "residuals"]
        fixed_point = stepping.record(module)  # type: ignore[arg-type]
    return Metadata(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        kind=to,
        backend=backend,
        cutoff=potential.cutoff,
        n_layers=0 if fixed_point else potential.depth,
        elements=potential.elements,
        symbols=[chemical_symbols[z] for z in potential.elements],
        precision=potential.precision,
        dtype="float64" if potential.precision == "float64" else "float32",
        units={"energy": "eV", "length": "Angstrom"},
        inputs=inputs,
        outputs=outputs,
        exchange_width=potential.exchange_width,
        torch=torch.__version__,
        mlff_calc=_own_version(),
        device=next(potential.parameters()).device.type,
        fixed_point=fixed_point,
        domain=potential.domain,
    )


def _engine_outputs(potential: Potential) -> list[str]:
    """Outputs of a file for LAMMPS; spreads only where the potential has a threshold to compare them with."""
    compared = FORCES_STD in potential.uncertainties and SPREAD in (potential.domain or {})
    return [*ENGINE_OUTPUTS, *([FORCES_STD] if compared else [])]


def _own_version() -> str:
    try:
        return version("mlff_calc")
    except PackageNotFoundError:  # a checkout on the path
        return "0"


def _text(metadata: Metadata) -> str:
    return json.dumps(asdict(metadata), indent=1)


def _add_record(file: Path, metadata: Metadata) -> Metadata:
    """Add the metadata, with checksums of all members, to an existing archive below its own top folder."""
    whole = replace(metadata, members=digests_of(file, file.read_bytes()))
    with zipfile.ZipFile(file, "a") as archive:
        top = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{top}/extra/{RECORD}", _text(whole))
    check_content(file, file.read_bytes(), whole)
    return whole


def _example(
    potential: Potential, module: nn.Module, to: str, n_atoms: int, seed: int, ghosts: int = 0, **options: float
) -> dict[str, Tensor]:
    """Build a probe graph with the inputs of the kind; `ghosts` unconnected nodes keep sizes distinct in a record."""
    device = next(potential.parameters()).device
    graph = probe_graph(potential, n_atoms, seed=seed, device=device, **options)
    if to == "lammps":
        numbers = graph["atomic_numbers"]
        graph["node_numbers"] = torch.cat([numbers, numbers[:ghosts]])
        graph["owned"] = torch.ones(n_atoms, dtype=torch.float64, device=device)
    if isinstance(module, EngineStep | ShadowEngineStep):
        graph["memory"] = probe_rows(module, graph, seed)
        graph["control"] = torch.tensor([PREDICT, 1e-8, 1e-6, 1e-3], dtype=torch.float64, device=device)
    return graph


def _compare(potential: Potential, module: nn.Module, file: Path, metadata: Metadata) -> None:
    """Compare a file with the eager potential.

    Raises:
        ExportError: the file does not load, or its outputs differ.
    """
    run = load_function(file.read_bytes(), metadata.backend)
    for n_atoms, seed, spacing in ((11, 1, 2.3), (30, 2, 2.3), (8, 3, 0.8)):
        graph = _example(potential, module, metadata.kind, n_atoms, seed=seed, spacing=spacing)
        modes = (COLD, PREDICT, CONTINUE, AGAIN) if isinstance(module, ShadowEngineStep) else (COLD, PREDICT, CONTINUE)
        for mode in modes if metadata.fixed_point else (PREDICT,):
            if metadata.fixed_point:
                graph["control"][0] = mode
            eager = {name: tensor.detach() for name, tensor in module(graph).items()}
            try:
                found = run([graph[name].contiguous() for name in metadata.inputs])
            except RuntimeError as error:
                raise ExportError(f"the exported file does not run ({error}); nothing was written") from error
            expected = {name: eager[name] for name in metadata.outputs}
            what = f"exported potential, {n_atoms} atoms"
            written = dict(zip(metadata.outputs, found, strict=True))
            compare(expected, written, potential.precision, what, in_double(module, graph))
