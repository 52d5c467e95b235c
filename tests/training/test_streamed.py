"""Training on frames that stay in their file: the same batches and weights, with memory independent of the data."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlff_calc.datasets import Sample, read_structures
from mlff_calc.datasets.convert import write_frames
from mlff_calc.datasets.hdf5_frames import HDF5Frames
from mlff_calc.datasets.readers import open_structures
from mlff_calc.datasets.rows import MOST_OPEN
from mlff_calc.errors import DatasetError, StructureError
from mlff_calc.potential import load_potential
from mlff_calc.training.kinds import task_for
from mlff_calc.training.potential.data import GraphFrames, StreamedGraphFrames, graph_frames
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train

WEIGHTS = [{"energy": 1.0, "forces": 0.5, "stress": 2.0}] * 7


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    """A folder with 12 frames, three of another config type, as extended xyz and as HDF5."""
    random, frames = np.random.default_rng(0), []
    for number in range(12):
        atoms = bulk("Cu", cubic=True) if number % 2 else bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.rattle(0.08, rng=random)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        if number % 4 == 0:
            atoms.info["config_type"] = "kept"
        frames.append(atoms)
    ase.io.write(tmp_path / "copper.extxyz", frames)
    write_frames(tmp_path / "copper.h5", read_structures(tmp_path / "copper.extxyz"))
    return tmp_path


def test_a_source_goes_to_other_processes_without_the_graphs_it_keeps(copper: Path) -> None:
    streamed = graph_frames(open_structures(copper / "copper.h5"), 4.0)
    before = streamed.batch([3, 0])
    sent = pickle.dumps(streamed)
    assert len(sent) < 40_000
    after = pickle.loads(sent).batch([3, 0])
    assert all(torch.equal(tensor, after.graph[name]) for name, tensor in before.graph.items())


def test_a_file_that_was_replaced_is_not_read_by_the_places_of_the_other(copper: Path) -> None:
    frames = open_structures(copper / "copper.h5")
    write_frames(copper / "other.h5", read_structures(copper / "copper.extxyz", "::-1"))
    (copper / "other.h5").replace(copper / "copper.h5")
    with pytest.raises(DatasetError, match=r"copper\.h5 was replaced or changed while it was read"):
        frames[0]


def test_batches_are_the_same_whatever_is_kept(copper: Path) -> None:
    loaded = GraphFrames(read_structures(copper / "copper.extxyz", ":7"), 4.0, WEIGHTS)
    stored = open_structures(copper / "copper.h5", ":7")
    assert isinstance(graph_frames(stored, 4.0), StreamedGraphFrames)
    for most in (0, 50_000, 10**9):
        streamed = StreamedGraphFrames(stored, 4.0, WEIGHTS, cache_bytes=most)
        assert streamed.average_neighbors() == loaded.average_neighbors()
        for frames in ([3, 0, 6], [1], [6, 5, 4, 3, 2, 1, 0], list(range(7)) * 6):
            one, other = loaded.batch(frames), streamed.batch(frames)
            assert one.frames == other.frames
            for each, same in ((one.graph, other.graph), (one.labels, other.labels), (one.weights, other.weights)):
                assert each.keys() == same.keys()
                for name, tensor in each.items():
                    assert torch.equal(tensor, same[name]), name
        held = sum(tensor.nbytes for pair in streamed._kept.values() for each in pair for tensor in each.values())
        assert held == streamed._bytes <= most
        assert bool(held) is (most > 0)


def recipe(folder: Path, file: str, output: str, n_epochs: int = 2) -> dict:
    return {
        "potential": {"backbone": {"name": "hegnn", "cutoff": 3.5, "l_max": 1, "channels": 4, "n_layers": 1}},
        "data": {"train": {"file": str(folder / file)}, "split": {"train": 8, "valid": 2, "test": 2, "seed": 3}},
        "loss": {"stress": 0.1, "config_weights": {"kept": 3.0}},
        "optimizer": {"batch_size": 3, "max_epochs": n_epochs, "warmup_steps": 2},
        "trainer": {"device": "cpu"},
        "output": str(folder / output),
    }


def test_weights_and_errors_are_those_of_the_same_frames_in_memory(copper: Path) -> None:
    found = {}
    for file in ("copper.extxyz", "copper.h5"):
        result = train(parse_recipe(recipe(copper, file, file.replace(".", "_")), copper / "recipe.yaml"))
        report = json.loads((result.folder / "evaluation.json").read_text())
        report.pop("files")
        found[file] = (load_potential(result.model), report)
    (one, before), (other, after) = found.values()
    assert before == after
    assert one.config == other.config
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())
    record = json.loads((copper / "copper_h5" / "run.json").read_text())["data"]["train"]
    assert record["sha256"] == hashlib.sha256((copper / "copper.h5").read_bytes()).hexdigest()


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_bad_structure_is_found_before_anything_is_written(copper: Path, part: str) -> None:
    """A bad structure is found early even if the mean number of neighbours is given and need not be measured."""
    frames = read_structures(copper / "copper.extxyz")
    frames[2].atoms.positions[1] = frames[2].atoms.positions[0]
    write_frames(copper / "bad.h5", frames)
    given = recipe(copper, "copper.h5", "run")
    given["potential"]["avg_num_neighbors"], given["loss"] = 20.0, {}
    given["data"] = {
        name: {"file": str(copper / "copper.h5"), "index": index}
        for name, index in (("train", "7:12"), ("valid", "5:6"), ("test", "6:7"))
    }
    given["data"][part] = {"file": str(copper / "bad.h5"), "index": "2:3"}
    with pytest.raises(StructureError, match=r"bad\.h5, frame 2.*overlap"):
        train(parse_recipe(given, copper / "recipe.yaml"))
    assert not (copper / "run").exists()


def test_preparation_reads_each_frame_a_few_times(copper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each purpose (isolated atoms, labels, forces, references, neighbours) reads all frames at most once."""
    read: Counter[int] = Counter()
    get = HDF5Frames.__getitem__
    monkeypatch.setattr(HDF5Frames, "__getitem__", lambda self, number: (read.update([number]), get(self, number))[1])
    given = parse_recipe(recipe(copper, "copper.h5", "run"), copper / "recipe.yaml")
    task = task_for(given)
    task.prepare(given, parts := task.read(given))
    assert {len(parts[part]) for part in ("train", "valid", "test")} == {8, 2}
    assert set(read) == set(range(12))
    assert max(read.values()) <= 5


def test_many_files_do_not_stay_open(copper: Path) -> None:
    folder = copper / "many"
    folder.mkdir()
    for number in range(MOST_OPEN + 10):
        shutil.copy(copper / "copper.h5", folder / f"{number}.h5")
    parts = [open_structures(folder / f"{number}.h5") for number in range(MOST_OPEN + 10)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in (5, 5, 6):
        energies = {samples[number].energy for samples in parts}
        assert energies == {open_structures(copper / "copper.h5")[number].energy}
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + MOST_OPEN


def frames(count: int) -> Iterator[Sample]:
    random = np.random.default_rng(0)
    for _ in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.rattle(0.05, rng=random)
        yield Sample(Atoms(atoms), float(random.normal()), random.normal(size=(32, 3)))


CHILD = """
import resource, sys
from mlff_calc.datasets.readers import open_structures

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def in_child(text: str, *words: str) -> float:
    command = [sys.executable, "-c", CHILD + text, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


def test_memory_stays_below_a_bound(tmp_path: Path) -> None:
    """The graphs of all frames together would take more than 100 MB."""
    write_frames(tmp_path / "big.h5", frames(600))
    grown = in_child(
        """
from mlff_calc.training.potential.data import StreamedGraphFrames
source = StreamedGraphFrames(open_structures(sys.argv[1]), 8.0, cache_bytes=4 * 1024**2)
size = sum(tensor.nbytes for each in source.frame(0) for tensor in each.values()) * len(source) / 1024**2
assert size > 100, size
source.batch(range(20))
before = used()
for start in range(20, 600, 20):
    source.batch(range(start, start + 20))
print(used() - before)
""",
        str(tmp_path / "big.h5"),
    )
    assert grown < 30.0
