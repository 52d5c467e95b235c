"""Degrees that distinguish symmetric structures from rotated copies: theory, training and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path

import pytest
import torch
from e3nn import o3

from mlff_calc.bench.studies.degree_probe import TIE, DegreeRow, SeededProbes, pairs_of, random_rotations
from mlff_calc.bench.studies.expressivity import Protocol, graphs_of, measure_noise, measure_table, rows_of
from mlff_calc.bench.studies.symmetric_graphs import (
    STRUCTURES,
    n_invariants,
    open_degrees,
    pooled_harmonics,
    symmetric_graph,
    symmetry_group,
)
from mlff_calc.errors import OptionError

DEGREES = range(1, 11)
PUBLISHED = {  # degrees that distinguish the copies, by the theory in the source
    "2-fold": {2, 4, 6, 8, 10},
    "3-fold": {2, 3, 4, 5, 6, 7, 8, 9, 10},
    "5-fold": {2, 4, 5, 6, 7, 8, 9, 10},
    "10-fold": {2, 4, 6, 8, 10},
    "tetrahedron": {3, 4, 6, 7, 8, 9, 10},
    "cube": {4, 6, 8, 10},
    "octahedron": {4, 6, 8, 10},
    "dodecahedron": {6, 10},
    "icosahedron": {6, 10},
}
ORDERS = {"2-fold": 8, "3-fold": 12, "5-fold": 20, "10-fold": 40, "tetrahedron": 24, "cube": 48, "octahedron": 48,
          "dodecahedron": 120, "icosahedron": 120}  # fmt: skip


@pytest.fixture
def expressivity(mlff: Callable) -> Callable:
    """Run `mlff bench expressivity`."""
    return partial(mlff, "bench", "expressivity")


@pytest.mark.parametrize("name", STRUCTURES)
def test_theory_is_the_published_table(name: str) -> None:
    graph = symmetric_graph(name)
    assert open_degrees(graph, DEGREES) == PUBLISHED[name]
    assert len(symmetry_group(graph.positions)) == ORDERS[name]


@pytest.mark.parametrize("name", STRUCTURES)
def test_summed_harmonics_vanish_without_an_invariant_of_the_group(name: str) -> None:
    positions = symmetric_graph(name).positions
    lengths = {degree: pooled_harmonics(positions, degree) for degree in DEGREES}
    assert {degree for degree, length in lengths.items() if length > 0.1} == PUBLISHED[name]
    assert all(length < 1e-12 for degree, length in lengths.items() if degree not in PUBLISHED[name])


@pytest.mark.parametrize("name", ["3-fold", "tetrahedron", "octahedron", "icosahedron"])
def test_characters_are_the_trace_of_the_mean_matrix(name: str) -> None:
    group = symmetry_group(symmetric_graph(name).positions)
    for degree in (1, 3, 4, 5, 6, 9):
        matrices = o3.Irrep(degree, (-1) ** degree).D_from_matrix(group)
        mean = matrices.mean(dim=0)
        torch.testing.assert_close(mean @ mean, mean, atol=1e-5, rtol=0.0)  # e3nn's matrices are accurate to 1e-6
        assert n_invariants(group, degree) == round(float(mean.trace()))


def test_group_does_not_depend_on_the_orientation() -> None:
    turned = symmetric_graph("3-fold").positions @ random_rotations([4])[0].t()
    group = symmetry_group(turned + torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64))
    assert len(group) == 12
    torch.testing.assert_close(group @ group.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(12, 3, 3))
    assert int((torch.linalg.det(group) < 0.0).sum()) == 6


def test_points_without_symmetry_have_every_degree() -> None:
    points = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    group = symmetry_group(points)
    assert len(group) == 1
    assert [n_invariants(group, degree) for degree in (1, 2, 7)] == [3, 5, 15]


@pytest.mark.slow
def test_measured_cells_equal_theory() -> None:
    graphs = graphs_of(["3-fold", "tetrahedron", "cube"])
    cells = measure_table(graphs, rows_of([1, 2, 3, 4]), Protocol(n_seeds=2, steps=90))
    assert len(cells) == 3 * 8
    for cell in cells:
        assert cell.deviations == []
        assert cell.found.accuracies == [cell.expected] * 2
        blind = cell.expected == 0.5
        assert cell.found.gaps[1] <= TIE if blind else cell.found.gaps[0] > 0.1
        assert blind == (cell.found.steps == 90)
        assert all(cell.found.pooled[degree - 1][1] < 1e-5 for degree in cell.zeros)
    assert {(c.structure, c.row) for c in cells if c.expected == 1.0} == {
        *[("3-fold", f"l = {n}") for n in (2, 3, 4)], *[("3-fold", f"l <= {n}") for n in (2, 3, 4)],
        ("tetrahedron", "l = 3"), ("tetrahedron", "l = 4"), ("tetrahedron", "l <= 3"), ("tetrahedron", "l <= 4"),
        ("cube", "l = 4"), ("cube", "l <= 4"),
    }  # fmt: skip


def test_training_cut_short_is_a_deviation() -> None:
    cells = measure_table(graphs_of(["tetrahedron"]), [DegreeRow(3)], Protocol(n_seeds=4, steps=1))
    assert len(cells[0].deviations) == 1
    assert "tetrahedron, l = 3" in cells[0].deviations[0]
    assert cells[0].as_dict()["deviations"] == cells[0].deviations


def test_a_nonzero_sum_against_theory_is_a_deviation() -> None:
    graph = symmetric_graph("tetrahedron")
    bent = graph.positions.clone()
    bent[0] *= 1.01
    batch = pairs_of(type(graph)("bent", bent, graph.edge_index), random_rotations([0, 1]))
    found = SeededProbes(DegreeRow(2), 8, 3.0, [0, 1]).judge(batch, 0)
    cell = measure_table([graph], [DegreeRow(2)], Protocol(n_seeds=2, steps=1))[0]
    assert cell.deviations == []
    broken = type(cell)(cell.structure, cell.row, cell.expected, cell.zeros, found, 0.0).deviations
    assert any("logits" in sentence for sentence in broken)
    assert any("sum of degree 2" in sentence for sentence in broken)


@pytest.mark.parametrize("row", [DegreeRow(0), DegreeRow(3), DegreeRow(4, only=False)], ids=str)
def test_sums_turn_with_the_structure(row: DegreeRow) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = pairs_of(symmetric_graph("cube"), random_rotations([0, 1, 2]), noise=0.2, generator=generator)
    _, pooled = SeededProbes(row, 8, 7.0, [0, 1, 2])(batch)
    scalars, rest = pooled[..., :8], pooled[..., 8:]
    torch.testing.assert_close(scalars[:, 0], scalars[:, 1])
    absent = [degree for degree in range(1, row.degree) if degree not in row.degrees]
    for degree in [*absent, *row.degrees]:
        parts = rest[..., degree * degree - 1 : degree * degree + 2 * degree]
        lengths = parts.norm(dim=-1)
        torch.testing.assert_close(lengths[:, 0], lengths[:, 1], atol=1e-12, rtol=1e-7)
        assert bool((lengths == 0.0).all()) == (degree in absent)
    if row.degree:
        assert not torch.allclose(rest[:, 0], rest[:, 1], atol=1e-3)


def test_odd_degrees_need_the_centre() -> None:
    """Without the centre, both directions of an edge cancel in odd degrees, so that degree 3 of the tetrahedron vanishes."""
    graph = symmetric_graph("tetrahedron")
    batch = pairs_of(graph, random_rotations([0, 1]))
    probes = SeededProbes(DegreeRow(3), 8, 3.0, [0, 1])
    assert probes.judge(batch, 0).gaps[0] > TIE
    with torch.no_grad():
        probes.weights["backbone.centre_species"].zero_()
    found = probes.judge(batch, 0)
    assert found.gaps[1] < TIE
    assert found.pooled[2][1] < 1e-5


def test_seeds_are_independent_networks() -> None:
    graph = symmetric_graph("3-fold")
    alone = SeededProbes(DegreeRow(2), 8, 1.5, [1])
    beside = SeededProbes(DegreeRow(2), 8, 1.5, [0, 1])
    one, both = pairs_of(graph, random_rotations([1])), pairs_of(graph, random_rotations([0, 1]))
    for probes, batch in ((alone, one), (beside, both)):
        assert probes.train(repeat(batch), 5, 1e-2, until_decided=False) == 5
    torch.testing.assert_close(alone(one)[0][0], beside(both)[0][1])
    assert not torch.allclose(beside(both)[0][0], beside(both)[0][1], atol=1e-3)


def test_noise_is_of_the_size_asked_for_and_shared_by_the_copy() -> None:
    graph, rotations = symmetric_graph("tetrahedron"), random_rotations([0, 1])
    batch = pairs_of(graph, rotations, noise=0.1, n_pairs=2000, generator=torch.Generator().manual_seed(0))
    points = batch.graph["positions"].unflatten(1, (2000, 2, 4))
    assert float((points[:, :, 0] - graph.positions).std()) == pytest.approx(0.1, rel=0.02)
    torch.testing.assert_close(torch.einsum("sab,spnb->spna", rotations, points[:, :, 0]), points[:, :, 1])


@pytest.mark.slow
def test_noise_is_learned_by_heart_in_degree_1_and_not_needed_in_degree_3() -> None:
    found = {row["row"]: row for row in measure_noise(Protocol(n_seeds=2, steps=80), noises=(0.05,))}
    assert found["EGNN"]["single"] == [0.5] * 2
    assert found["l = 1"]["single"] == [1.0] * 2
    assert all(0.3 < accuracy < 0.7 for accuracy in found["l = 1"]["unseen"])
    assert all(accuracy > 0.95 for name in ("l = 3", "l <= 3") for accuracy in found[name]["unseen"])


def test_bad_input_of_the_library() -> None:
    with pytest.raises(OptionError, match="degree 12 is out of range"):
        DegreeRow(12)
    with pytest.raises(OptionError, match="no structures"):
        graphs_of([])
    with pytest.raises(OptionError, match="give 2 to 20"):
        graphs_of(["1-fold"])
    with pytest.raises(OptionError, match="steps is 0"):
        Protocol(steps=0)


def test_command_prints_tables_and_writes_figures(tmp_path: Path, expressivity: Callable) -> None:
    output, picture = tmp_path / "sub" / "e.json", tmp_path / "pictures" / "e.png"
    done = expressivity(
        "--degrees", "1,3", "--structures", "tetrahedron,3-fold", "--seeds", "2", "--no-noise", "--output", str(output),
        "--plot", str(picture),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "by theory" in done.stdout
    assert "l <= 3" in done.stdout
    result = json.loads(output.read_text())
    assert result["deviations"] == []
    assert len(result["cells"]) == 8
    assert {cell["row"] for cell in result["cells"]} == {"EGNN", "l = 1", "l = 3", "l <= 3"}
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_command_ends_with_status_1_on_a_deviation(expressivity: Callable) -> None:
    done = expressivity("--degrees", "3", "--structures", "tetrahedron", "--seeds", "4", "--no-noise", "--steps", "1")
    assert done.returncode == 1
    assert " !" in done.stdout
    assert "tetrahedron, l = 3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--degrees", "3,11"], "degrees to measure: 3, 11; give each once, from 1 to 10"),
        (["--structures", "cub"], "did you mean 'cube'?"),
        (["--plot", "table.xyz"], "ends in none of .png"),
    ],
)
def test_bad_input_gives_one_message(expressivity: Callable, words: list[str], message: str) -> None:
    done = expressivity(*words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_every_degree_on_the_smaller_structures() -> None:
    graphs = graphs_of([name for name in STRUCTURES if name not in ("dodecahedron", "icosahedron")])
    for cell in measure_table(graphs, rows_of(list(DEGREES)), Protocol(n_seeds=3)):
        assert cell.deviations == []
