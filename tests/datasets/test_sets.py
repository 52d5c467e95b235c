"""Data sets, splits, statistics and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from torch.utils.data import DataLoader

from mlff_calc.datasets import (
    Sample,
    StructureDataset,
    fit_reference_energies,
    force_rms,
    split_indices,
)
from mlff_calc.datasets.splits import compositions
from mlff_calc.errors import DatasetError, OptionError, StructureError
from mlff_calc.graph import collate, validate_graph


def sample(atoms: Atoms, frame: int = 0, file: str = "a.extxyz", **labels) -> Sample:
    return Sample(atoms, path=Path(file), frame=frame, **labels)


@pytest.fixture
def mixed() -> StructureDataset:
    ethanol, silicon = molecule("CH3CH2OH"), bulk("Si")
    return StructureDataset(
        [
            sample(ethanol, 0, energy=-5.0, forces=np.full((9, 3), 2.0)),
            sample(silicon, 1, energy=-9.0, stress=0.1 * np.eye(3)),
            sample(Atoms("O"), 2, energy=-1.0, forces=np.zeros((1, 3))),
        ],
        cutoff=5.0,
    )


def test_graphs_carry_labels_with_nan_where_there_are_none(mixed):
    graphs = mixed.graphs(5.0)
    assert mixed.graphs(5.0) is graphs
    assert mixed[1] is graphs[1]
    for graph in graphs:
        validate_graph(graph, required=("energy", "forces", "stress"))
    batch = collate(graphs)
    validate_graph(batch)
    assert batch["energy"].tolist() == [-5.0, -9.0, -1.0]
    assert batch["forces"].isnan().any(dim=1).tolist() == [False] * 9 + [True] * 2 + [False]
    assert batch["stress"].isnan().all(dim=(1, 2)).tolist() == [True, False, True]
    assert mixed.graphs(2.5)[1]["edge_index"].shape[1] == 8
    with pytest.raises(OptionError, match="cutoff"):
        StructureDataset(mixed.samples)[0]


def test_a_structure_that_cannot_be_a_graph_is_named():
    broken = StructureDataset([sample(molecule("H2O")), sample(Atoms("H2"), 7, "bad.extxyz")])
    with pytest.raises(StructureError, match=r"bad\.extxyz, frame 7: atoms 0 and 1 overlap"):
        broken.graphs(5.0)


def test_splits_are_disjoint_and_repeatable():
    parts = split_indices(100, 0.7, 20, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 70, "valid": 20, "test": 0}
    assert len(np.unique(np.concatenate(list(parts.values())))) == 90
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = split_indices(100, 0.7, 20, seed=3)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert all(np.array_equal(parts[name], again[name]) for name in parts)
    assert not np.array_equal(parts["valid"], split_indices(100, 0.7, 20, seed=4)["valid"])
    rest = split_indices(10, valid=2, test=0.3)
    assert [len(rest[name]) for name in ("train", "valid", "test")] == [5, 2, 3]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 8, "valid": 3}, "that is 11 in all"),
        ({"valid": 10}, "nothing is left to train on"),
        ({"train": 0}, "nothing is left"),
        ({"valid": 1.5}, "'valid' is 1.5"),
        ({"train": -1}, "'train' is -1"),
        ({"test": True}, "'test' is True"),
        ({"test": float("nan")}, "'test' is nan"),
    ],
)
def test_splits_that_cannot_be(sizes, message):
    with pytest.raises(DatasetError, match=message):
        split_indices(10, **sizes)


def test_compositions_are_numbered_as_they_come():
    found = compositions([molecule(name) for name in ("H2O", "CH3OCH3", "CH3CH2OH", "H2O", "CO2")])
    assert found.tolist() == [0, 1, 1, 0, 2]


def test_reference_energies():
    true = {1: -13.0, 6: -1030.0, 8: -2040.0}
    names = ["H2O", "CH4", "CH3CH2OH", "CO2", "CO"]
    samples = [
        sample(atoms, energy=sum(true[z] for z in atoms.numbers)) for atoms in (molecule(name) for name in names)
    ]
    fitted = fit_reference_energies(samples, [1, 6, 8, 14])
    assert fitted == pytest.approx(true | {14: 0.0}, abs=1e-8)
    one = [sample(molecule("H2O"), energy=-100.0), sample(molecule("H2O"), energy=-102.0), sample(molecule("CH4"))]
    fitted = fit_reference_energies(one, [1, 8])
    assert 2 * fitted[1] + fitted[8] == pytest.approx(-101.0)
    assert fitted[1] == pytest.approx(2 * fitted[8])  # the solution with the smallest norm
    with pytest.raises(DatasetError, match="holds C, which is not among H O"):
        fit_reference_energies(samples, [1, 8])
    with pytest.raises(DatasetError, match="no frame has an energy"):
        fit_reference_energies(one[2:], [1, 6])


def test_size_of_forces(mixed):
    assert force_rms(mixed.samples) == pytest.approx(np.sqrt(4.0 * 27 / 30))
    with pytest.raises(DatasetError, match="no frame has forces"):
        force_rms([sample(molecule("H2O"))])


def test_torchs_own_loader(mixed):
    energies = [batch["energy"].tolist() for batch in DataLoader(mixed, batch_size=2, collate_fn=collate)]
    assert energies == [[-5.0, -9.0], [-1.0]]
