"""The comparison with the eager potential accepts rounding of any size, and refuses other differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlff_calc.export import ExportError, export_potential
from mlff_calc.export import artifact as artifact_module
from mlff_calc.export.check import SMALL, TOLERANCES, compare, doubled, in_double, probe_graph, probe_memory, probe_rows
from mlff_calc.graph import Graph
from mlff_calc.potential import Potential, build_potential
from mlff_calc.potential.engine import CONTINUE, EngineStep
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes

Outputs = dict[str, Tensor]


def potential_of(name: str, precision: str = "float32", steep: float = 1.0) -> Potential:
    """Make a potential; `steep` multiplies its energies, except repulsion and references, and so their rounding."""
    config = {
        "backbone": {"name": name, "cutoff": 4.0, "l_max": 1, "channels": 8},
        "elements": ["H", "C", "O"],
        "reference_energies": {"H": -13.6, "C": -1030.0, "O": -2041.0},
        "repulsion": {"name": "zbl"},
    }
    potential = build_potential(config, seed=3).to_precision(precision).eval()
    with torch.no_grad():
        potential.heads["energy"].last.weight.mul_(steep)
    return potential.requires_grad_(False)


def probe(potential: Potential, near: bool = False) -> Graph:
    return probe_graph(potential, 8, seed=3, device=torch.device("cpu"), spacing=0.8 if near else 2.3)


def in_another_order(potential: Potential, graph: Graph) -> Outputs:
    """The same outputs with other rounding, since neighbours are summed in reverse order."""
    centre = graph["edge_index"][0]
    order = torch.argsort(centre.flip(0), stable=True)
    order = centre.shape[0] - 1 - order  # centres in ascending order, and the neighbours of each in descending order
    assert torch.equal(centre[order], centre)
    assert not torch.equal(graph["edge_index"][:, order], graph["edge_index"])
    edges = {"edge_index": graph["edge_index"][:, order], "edge_vec": graph["edge_vec"][order]}
    return potential(graph | {name: value.contiguous() for name, value in edges.items()})


def with_error(out: Outputs, name: str, change: Callable[[Tensor], Tensor]) -> Outputs:
    return {**out, name: change(out[name])}


@pytest.mark.parametrize("name", ["equiformer", "hegnn"])
def test_an_error_of_a_tenth_of_a_millielectronvolt_is_refused(name: str) -> None:
    potential = potential_of(name)
    graph = probe(potential)
    expected, double = potential(graph), in_double(potential, graph)
    compare(expected, in_another_order(potential, graph), "float32", "rounding", double)
    for output in ("energy", "energies", "forces"):
        found = with_error(expected, output, lambda value: value + 1e-4)
        with pytest.raises(ExportError, match=f"{output} differs from eager by 0.0001"):
            compare(expected, found, "float32", "wrong", double)
    with pytest.raises(ExportError, match="forces differs"):
        compare(expected, with_error(expected, "forces", lambda value: value * float("nan")), "float32", "NaN", double)


@pytest.mark.parametrize("steep", [1.0, 100.0])
def test_an_error_of_one_percent_on_near_atoms_is_refused(steep: float) -> None:
    potential = potential_of("hegnn", steep=steep)
    graph = probe(potential, near=True)
    expected, double = potential(graph), in_double(potential, graph)
    assert expected["forces"].abs().max() > 100.0
    bare = torch.tensor([{1: -13.6, 6: -1030.0, 8: -2041.0}[int(z)] for z in graph["atomic_numbers"]])
    for output in ("energies", "forces", "virial", "atomic_virial", "stress"):
        offset = bare if output == "energies" else 0.0
        found = with_error(expected, output, lambda value, start=offset: value + 0.01 * (value - start))
        with pytest.raises(ExportError, match=f"{output} differs from eager"):
            compare(expected, found, "float32", "wrong", double)


def test_rounding_is_let_through_however_large() -> None:
    potential = potential_of("hegnn", steep=100.0)
    graph = probe(potential, near=True)
    expected, found = potential(graph), in_another_order(potential, graph)
    compare(expected, found, "float32", "rounding", in_double(potential, graph))
    with pytest.raises(ExportError, match="differs from eager"):  # too large if the rounding is not measured
        compare(expected, found, "float32", "rounding")


def test_rounding_is_measured_only_where_it_matters() -> None:
    potential = potential_of("equiformer")
    graph = probe(potential)

    def never() -> Outputs:
        raise AssertionError

    expected = potential(graph)
    compare(expected, in_another_order(potential, graph), "float32", "small", never)
    with pytest.raises(AssertionError):
        compare(expected, with_error(expected, "forces", lambda value: value + 2 * SMALL), "float32", "large", never)


def test_float64_has_no_rounding_to_speak_of() -> None:
    potential = potential_of("hegnn", "float64")
    graph = probe(potential, near=True)
    expected, double = potential(graph), in_double(potential_of("hegnn", "float64", steep=1.1), graph)
    compare(expected, in_another_order(potential, graph), "float64", "rounding", double)
    for output in ("energies", "forces"):
        error = 2 * TOLERANCES["float64"] * max(1.0, float(expected["forces"].abs().max()))
        found = with_error(expected, output, lambda value, size=error: value + size)
        with pytest.raises(ExportError, match=f"{output} differs"):
            compare(expected, found, "float64", "wrong", double)


@pytest.mark.parametrize("kind", ["step", "rows"])
def test_a_fixed_point_step_is_measured_in_its_place(kind: str) -> None:
    """All outputs of a step, also of an engine, have a reference in float64 close to the result in float32."""
    potential = potential_of("deq")
    step = FixedPointStep(potential, StepSizes(n_forward=3, n_adjoint=2, window=2, kept=2)).eval()
    graph = probe(potential)
    module: torch.nn.Module = step
    if kind == "rows":
        module = EngineStep(step).eval()
        control = torch.tensor([CONTINUE, 1e-8, 1e-6, 0.0], dtype=torch.float64)
        graph |= {"memory": probe_rows(module, graph, 1), "control": control}
    else:
        graph |= probe_memory(step, graph, 1)
    expected, exact = module(graph), in_double(module, graph)()
    assert exact.keys() == expected.keys()
    for name, value in expected.items():
        assert exact[name].dtype == torch.float64
        torch.testing.assert_close(value.double(), exact[name], rtol=1e-4, atol=1e-4, msg=name)
    assert any(not torch.equal(value.double(), exact[name]) for name, value in expected.items())
    assert potential.precision == "float32"
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert {weight.dtype for weight in doubled(module).parameters()} == {torch.float64}


def refuse_what_is_written_of(
    wrong: Potential, potential: Potential, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    real = artifact_module.trace_for_use
    monkeypatch.setattr(artifact_module, "trace_for_use", lambda _, *arguments: real(wrong, *arguments))
    with pytest.raises(ExportError, match="differs from eager"):
        export_potential(potential, path / "p.pt")
    assert not list(path.iterdir())


def test_a_file_in_float32_that_is_a_little_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    potential, wrong = potential_of("hegnn"), potential_of("hegnn")
    with torch.no_grad():
        wrong.heads["energy"].last.bias.add_(1e-4)
    refuse_what_is_written_of(wrong, potential, monkeypatch, tmp_path)


def test_a_file_that_is_wrong_for_near_atoms_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    potential, wrong = potential_of("hegnn"), potential_of("hegnn")
    real = wrong.repulsion.forward

    def more(features: Graph) -> Graph:
        bare = features["energies"]
        found = real(features)
        return found | {"energies": bare + 1.01 * (found["energies"] - bare)}

    monkeypatch.setattr(wrong.repulsion, "forward", more)
    far = probe(potential)
    compare(potential(far), wrong(far), "float32", "ordinary", in_double(potential, far))
    refuse_what_is_written_of(wrong, potential, monkeypatch, tmp_path)
