"""A potential compiled ahead of time by AOTInductor, cached on disk and checked against eager.

One file serves any number of atoms, edges and systems, since sizes are symbolic. Graphs that are too small for symbolic
sizes (fewer than two atoms or edges) are evaluated by the eager potential, which is kept alongside; so are batches of a
fixed-point step, whose memory belongs to one system.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlff_calc.caches import SEAL, is_sealed, private_dir, seal
from mlff_calc.compilers import find_compiler
from mlff_calc.errors import OptionError
from mlff_calc.export.announce import announced
from mlff_calc.export.cache import cache_key, compiled_cache_dir
from mlff_calc.export.check import ExportError, compare, in_double, probe_graph, probe_memory
from mlff_calc.export.trace import INPUTS, output_names, trace_for_use, without_fake_cache
from mlff_calc.graph import collate
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes
from mlff_calc.potential.shadow import ShadowSizes, ShadowStep

logger = logging.getLogger(__name__)


class CompiledPotential:
    """A compiled potential, or a compiled step of a fixed-point potential, called like its eager original.

    Attributes:
        potential: eager potential.
        step: eager step; None for a potential without a fixed point.
        elements, cutoff, precision: those of the potential.
        path: compiled file.
    """

    def __init__(
        self, potential: Potential, path: Path, device: torch.device, step: FixedPointStep | ShadowStep | None = None
    ) -> None:
        self.potential = potential
        self.step = step
        self._eager: torch.nn.Module = potential if step is None else step
        self.elements = potential.elements
        self.cutoff = potential.cutoff
        self.precision = potential.precision
        self.path = Path(path)
        self.device = device
        self._inputs, self._names = signature_of(potential, step)
        self._load()

    def _load(self) -> None:
        with torch.inference_mode(False):
            index = -1 if self.device.type == "cpu" else self.device.index or 0
            package = torch._inductor.aoti_load_package(str(self.path), device_index=index)  # noqa: SLF001
        # Calling the package would analyse nested arguments at every call, which takes 70 us; ours are a flat list.
        self._run = package.loader.boxed_run

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs of `Potential.forward`."""
        if graph["edge_index"].shape[1] < 2 or graph["atomic_numbers"].shape[0] < 2 or not self._takes(graph["cell"]):
            return self._eager(graph)
        return dict(zip(self._names, self._run([graph[key].contiguous() for key in self._inputs]), strict=True))

    def _takes(self, cells: Tensor) -> bool:
        """Whether compiled code takes this number of systems."""
        return cells.shape[0] == 1 or (cells.shape[0] > 1 and self.step is None)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the loaded library, which `__setstate__` loads again."""
        return {key: value for key, value in self.__dict__.items() if key != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and load the compiled file; compiles again if the cache was emptied."""
        self.__dict__.update(state)
        if not is_sealed(self.path):
            sizes = None if self.step is None else self.step.sizes
            self.path = compile_potential(self.potential, device=self.device, step=sizes).path
        self._load()


def compile_potential(
    potential: Potential,
    *,
    device: str | torch.device = "cpu",
    precision: str | None = None,
    cache_dir: str | Path | None = None,
    step: StepSizes | ShadowSizes | None = None,
) -> CompiledPotential:
    """Compile a potential, or a step of a fixed-point potential, or take it from the cache.

    The cache is keyed by weights, precision, device, number of threads, torch version and processor. A new file is
    compared with eager results on a few structures before it enters the cache. Entries are made again if they do not
    belong to this user or root, can be written by others, or differ from the SHA-256 beside them.

    Args:
        potential: potential, which is not changed.
        device: `cpu` or a CUDA device.
        precision: precision to cast to first; the potential's own by default.
        cache_dir: folder of compiled files; `compiled_cache_dir()` by default.
        step: sizes of a step: `StepSizes`, which fixed-point potentials require, or `ShadowSizes` for shadow dynamics with
            fields.

    Raises:
        OptionError: there is no C++ compiler, or a fixed-point potential is given without `step`.
        ExportError: compilation failed, or the result does not agree with eager results.
        CacheError: the cache belongs to another user, or others may write in it and the permission cannot be removed.
    """
    device = torch.device(device)
    potential = potential.to_precision(precision or potential.precision)  # a copy, so that the caller's is not changed
    potential = potential.eval().requires_grad_(False).to(device)
    eager: FixedPointStep | ShadowStep | None = None
    if isinstance(step, ShadowSizes):
        eager = ShadowStep(potential, step).eval()
    elif isinstance(potential, FixedPointPotential):
        if step is None:
            raise OptionError(
                "a fixed-point potential is compiled as a step of a trajectory: use MLFFCalculator(..., compile=True) with "
                "reuse, or leave compile off"
            )
        eager = FixedPointStep(potential, step).eval()
    folder = Path(cache_dir) if cache_dir is not None else compiled_cache_dir()
    path = folder / f"{cache_key(potential, device, torch.get_num_threads(), step)}.pt2"
    try:
        private_dir(folder)
    except OSError as error:
        raise _not_kept(folder, error) from error
    if not is_sealed(path):
        try:
            with announced(potential, device, "a step" if step is None else f"a step of {tuple(step)} evaluations"):
                _compile(potential, device, path, eager)
        except OSError as error:
            raise _not_kept(folder, error) from error
    return CompiledPotential(potential, path, device, eager)


def _not_kept(folder: Path, error: OSError) -> ExportError:
    return ExportError(
        f"compiled potentials cannot be kept in {folder} ({error}); set MLFF_CACHE to a folder with room"
    )


def require_compiler() -> None:
    """Check that there is a C++ compiler, and that PyTorch can call it.

    Raises:
        OptionError: there is no compiler, or PyTorch cannot handle the path of temporary files; the message names the
            cure.
    """
    find_compiler("compiling needs a C++ compiler", "install g++, or leave compile off")
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")
    for name, path in (("TMPDIR", tempfile.gettempdir()), ("TORCHINDUCTOR_CACHE_DIR", cache)):
        if any(sign.isspace() or sign in "\"'\\" for sign in path):
            raise OptionError(
                f"PyTorch's compiler cannot handle blanks, quotes and backslashes in the path of its files, but {name} is "
                f"{path!r}; set {name} to another folder"
            )


def _compile(potential: Potential, device: torch.device, path: Path, step: FixedPointStep | ShadowStep | None) -> None:
    """Trace, export and compile, compare with eager results, and move the file to `path`."""
    require_compiler()
    start = time.monotonic()
    example = _example(potential, step, (11,) if step else (4, 3, 4), seed=1, device=device)
    eager = potential if step is None else step
    with tempfile.TemporaryDirectory(prefix="compile-", dir=path.parent) as folder:
        file = Path(folder) / path.name
        try:
            aoti_package(eager, example, *signature_of(potential, step), file)
        except Exception as error:
            msg = f"AOTInductor could not compile this potential ({type(error).__name__}: {error}); leave compile off"
            raise ExportError(msg) from error
        compiled = CompiledPotential(potential, file, device, step)
        for sizes, seed, spacing in _PROBES if step is None else _PROBES[:-1]:
            graph = _example(potential, step, sizes, seed=seed, device=device, spacing=spacing)
            what = f"compiled potential, {' + '.join(map(str, sizes))} atoms"
            compare(eager(graph), compiled(graph), potential.precision, what, in_double(eager, graph))
        seconds = time.monotonic() - start
        facts = {"seconds": round(seconds, 1), "torch": torch.__version__, "precision": potential.precision}
        path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
        seal(file)
        os.replace(file, path)
        os.replace(file.with_name(file.name + SEAL), path.with_name(path.name + SEAL))
    logger.debug("compiled: %s", path)


def signature_of(potential: Potential, step: FixedPointStep | ShadowStep | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs and outputs of the compiled graph."""
    if step is None:
        return INPUTS, output_names(potential)
    return (*INPUTS, *step.inputs), (*output_names(potential), *step.outputs)


_PROBES = (((11,), 1, 2.3), ((30,), 2, 2.3), ((8,), 3, 0.8), ((5, 1, 30, 8), 4, 2.3))
"""Numbers of atoms of the systems, seed and spacing (Angstrom) of the graphs that are compared; batches stand last."""


def _example(
    potential: Potential,
    step: FixedPointStep | ShadowStep | None,
    sizes: Sequence[int],
    *,
    seed: int,
    device: torch.device,
    **options: float,
) -> dict[str, Tensor]:
    """Build a probe graph of systems with these numbers of atoms, with a made-up past for a step."""
    graphs = [probe_graph(potential, n, seed=seed + i, device=device, **options) for i, n in enumerate(sizes)]
    graph = graphs[0] if len(graphs) == 1 else collate(graphs)
    return graph if step is None else graph | probe_memory(step, graph, seed)


def aoti_package(
    module: nn.Module, example: dict[str, Tensor], inputs: Sequence[str], outputs: Sequence[str], file: Path
) -> None:
    """Write the AOTInductor package of a module from dict to dict to `file`, traced on `example`.

    Code that is traced on several systems takes any number of them; traced on one, it takes one.
    """
    dynamic = torch.export.Dim.DYNAMIC
    counted = _DYNAMIC if example["cell"].shape[0] == 1 else _DYNAMIC | {"cell": 0}
    sizes = tuple(None if name not in counted else {counted[name]: dynamic} for name in inputs)
    with warnings.catch_warnings(), without_fake_cache():
        warnings.simplefilter("ignore", DeprecationWarning)  # warnings of the compiler about its own code
        warnings.simplefilter("ignore", FutureWarning)
        traced = trace_for_use(module, example, inputs, outputs)
        tensors = tuple(example[key] for key in inputs)
        exported = torch.export.export(traced, tensors, dynamic_shapes=sizes, strict=False)
        torch._inductor.aoti_compile_and_package(exported, package_path=str(file))  # noqa: SLF001


_DYNAMIC = {
    "atomic_numbers": 0,
    "system_index": 0,
    "edge_index": 1,
    "edge_vec": 0,
    "start_fields": 0,
    "past_embeddings": 1,
    "past_states": 1,
    "past_adjoints": 1,
    "state_secants": 2,
    "adjoint_secants": 2,
    "node_numbers": 0,
    "owned": 0,
    "memory": 0,
}
"""Dimension of an input that counts atoms, edges or systems."""
