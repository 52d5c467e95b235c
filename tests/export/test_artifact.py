"""Exported files give the results of the potential, and invalid exports are refused before anything is written."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc import MLFFCalculator
from mlff_calc.backbones import available_backbones
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.errors import ConvergenceError, MLFFError, OptionError, PotentialFileError
from mlff_calc.export import ExportError, Stepping, export_potential, load_exported, read_metadata
from mlff_calc.export import artifact as artifact_module
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.potential import Potential, build_potential
from mlff_calc.potential.fixed_point_step import StepSizes

OPTIONS = {"deq": {"tolerance": 1e-12, "max_evaluations": 300}, "hegnn": {"n_layers": 2}}
OUTPUTS = ("energy", "energies", "forces", "virial", "atomic_virial", "stress")


def potential_of(name: str, **options: object) -> Potential:
    config = {
        "backbone": {"name": name, "cutoff": 4.0, "l_max": 1, "channels": 8, **OPTIONS.get(name, {})},
        "elements": ["H", "C", "O", "Si"],
        "reference_energies": {1: -3.0, 6: -5.0, 8: -7.0, 14: -11.0},
        "repulsion": {"name": "zbl", "reach": 1.5},
        **options,
    }
    potential = build_potential(config, seed=3).to_precision("float64").eval()
    if potential.backbone.is_fixed_point:  # the map of a new network need not be contractive
        with torch.no_grad():
            potential.backbone.map.scale(0.3)
    return potential


def stepping(potential: Potential, kind: str) -> Stepping | None:
    """Return the recommended step for LAMMPS, and the smallest for TorchScript, which takes a third of the time."""
    found = stepping_of("auto", potential)
    return found if found is None or kind == "lammps" else replace(found, sizes=StepSizes(1, 1, 1, 0))


def structures() -> list[Atoms]:
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.1, seed=0)
    return [crystal, molecule("CH3CH2OH"), molecule("H2O"), Atoms("O"), Atoms("HH", positions=[[0, 0, 0], [0, 0, 9]])]


@pytest.fixture(scope="module")
def exported_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Function that returns the file of `potential_of(name)`, exported once for all tests, which must not change it."""
    folder = tmp_path_factory.mktemp("exported")

    def file(name: str, kind: str) -> Path:
        path = folder / f"{name}-{kind}.pt"
        if not path.exists():
            potential = potential_of(name)
            written = export_potential(potential, path, to=kind, stepping=stepping(potential, kind))
            assert read_metadata(path) == written
        return path

    return file


@pytest.mark.parametrize("kind", ["torchscript", "lammps"])
@pytest.mark.parametrize("name", available_backbones())
def test_every_backbone_gives_the_same(name: str, kind: str, exported_file: Callable[[str, str], Path]) -> None:
    potential, exported = potential_of(name), load_exported(exported_file(name, kind))
    for atoms in structures():
        graph = graph_from_atoms(atoms, potential.cutoff)
        expected, found = potential(graph), exported(graph)
        for output in OUTPUTS:
            torch.testing.assert_close(found[output], expected[output].detach(), rtol=0, atol=1e-9)
        assert found["forces"].shape == (len(atoms), 3)


def test_a_calculator_accepts_the_file(exported_file: Callable[[str, str], Path]) -> None:
    potential, file = potential_of("equiformer"), exported_file("equiformer", "torchscript")
    crystal = structures()[0]
    results = [
        MLFFCalculator(given, precision="float64", device="cpu").evaluate(crystal) for given in (potential, file)
    ]
    for key in ("energy", "forces", "stress", "energies", "stresses"):
        np.testing.assert_allclose(results[1][key], results[0][key], rtol=0, atol=1e-11)
    assert MLFFCalculator(file, device="cpu").parameters["precision"] == "float64"
    with pytest.raises(OptionError, match="exported in float64"):
        MLFFCalculator(file, device="cpu", precision="float32")
    with pytest.raises(OptionError, match="leave compile off"):
        MLFFCalculator(file, precision="float64", device="cpu", compile=True)


def test_direct_forces_have_no_stress(tmp_path: Path) -> None:
    potential = potential_of("hegnn", forces="direct")
    export_potential(potential, tmp_path / "p.pt")
    graph = graph_from_atoms(structures()[1], potential.cutoff)
    found = load_exported(tmp_path / "p.pt")(graph)
    torch.testing.assert_close(found["forces"], potential(graph)["forces"], rtol=0, atol=1e-11)
    assert "stress" not in found
    with pytest.raises(OptionError, match="direct"):
        export_potential(potential, tmp_path / "q.pt", to="lammps")
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt"]


def test_metadata_are_in_the_archive(exported_file: Callable[[str, str], Path]) -> None:
    file = exported_file("deq", "lammps")
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("extra/mlff.json"))
        fields = json.loads(archive.read(name))
    assert fields["elements"] == [1, 6, 8, 14]
    assert fields["symbols"] == ["H", "C", "O", "Si"]
    assert fields["inputs"][-2:] == ["memory", "control"]
    assert fields["fixed_point"]["width"] == 8 + 16
    assert fields["fixed_point"]["slots"] == 3 * 4 + 4 * 4
    assert WarmStart.of_record(fields["fixed_point"]) == WarmStart()
    assert fields["fixed_point"].keys() >= asdict(WarmStart()).keys()
    assert fields["exchange_width"] == 8 + 16
    assert fields["dtype"] == "float64"


def test_a_fixed_point_out_of_reach_is_an_error(tmp_path: Path) -> None:
    potential = potential_of("deq")
    with torch.no_grad():
        potential.backbone.map.scale(200.0)
    hasty = Stepping(StepSizes(1, 1, 1, 0), 1e-3, 1e-8, 1e-6, warm=WarmStart(factor=1e-6, cold_patience=1))
    export_potential(potential, tmp_path / "p.pt", stepping=hasty)
    exported, graph = load_exported(tmp_path / "p.pt"), graph_from_atoms(structures()[0], potential.cutoff)
    with pytest.raises(ConvergenceError, match="look at this frame") as caught:
        exported(graph)
    assert len(caught.value.residuals) == 3  # the policy is part of the file
    exported.metadata.fixed_point.update(asdict(WarmStart()))
    with pytest.raises(ConvergenceError, match="look at this frame") as caught:
        exported(graph)
    assert len(caught.value.residuals) > 3


def test_records_without_a_policy_of_warm_starts_have_its_default(
    tmp_path: Path, exported_file: Callable[[str, str], Path]
) -> None:
    """Files of format version 2 have no policy; in later versions invalid or missing values are errors."""
    file = exported_file("deq", "lammps")
    written, module = read_metadata(file), torch.jit.load(file)
    kept = {key: value for key, value in written.fixed_point.items() if key not in asdict(WarmStart())}
    whole = asdict(WarmStart())
    for version, more in ((2, {}), (2, {"reach": -1.0}), (3, {}), (3, {"reach": 0.5}), (3, {**whole, "factor": 2.0})):
        fields = {**vars(written), "format_version": version, "fixed_point": {**kept, **more}}
        torch.jit.save(module, str(tmp_path / "old.pt"), _extra_files={"mlff.json": json.dumps(fields)})
        if more or version > 2:
            with pytest.raises(PotentialFileError, match="its fixed_point is"):
                read_metadata(tmp_path / "old.pt")
        else:
            assert WarmStart.of_record(read_metadata(tmp_path / "old.pt").fixed_point) == WarmStart()


def test_pickles_load_the_file_again(exported_file: Callable[[str, str], Path]) -> None:
    exported = load_exported(exported_file("equiformer", "torchscript"))
    graph = graph_from_atoms(structures()[1], exported.cutoff)
    assert torch.equal(pickle.loads(pickle.dumps(exported))(graph)["forces"], exported(graph)["forces"])


def test_a_difference_to_eager_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = artifact_module.trace_for_use

    def wrong(module: torch.nn.Module, *arguments: object) -> torch.fx.GraphModule:
        other = potential_of("hegnn")
        with torch.no_grad():
            other.heads["energy"].last.weight.mul_(1.001)
        return real(other, *arguments)

    monkeypatch.setattr(artifact_module, "trace_for_use", wrong)
    (tmp_path / "p.pt").write_text("what was there")
    with pytest.raises(ExportError, match="differs from eager"):
        export_potential(potential_of("hegnn"), tmp_path / "p.pt", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt"]
    assert (tmp_path / "p.pt").read_text() == "what was there"


def test_mistakes_are_reported_before_anything_is_written(tmp_path: Path) -> None:
    explicit, fixed_point = potential_of("equiformer"), potential_of("deq")
    (tmp_path / "there.pt").write_text("")
    cases: list[tuple[Potential, str, dict, str]] = [
        (explicit, "p.pt", {"to": "onnx"}, "choose one of torchscript, lammps, aoti"),
        (explicit, "p.onnx", {}, "ends in .pt"),
        (explicit, "p.pt2", {}, "ends in .pt;"),
        (explicit, "p.pt", {"to": "aoti"}, "ends in .pt2"),
        (explicit, "nowhere/p.pt", {}, "no folder"),
        (explicit, "there.pt", {}, "there already"),
        (explicit, "p.pt", {"precision": "float16"}, "float16"),
        (fixed_point, "p.pt", {}, "give `stepping`"),
        (explicit, "p.pt", {"stepping": Stepping(StepSizes(1, 1, 1, 0), 1e-3, 1e-8, 1e-6)}, "leave it out"),
    ]
    for potential, name, options, message in cases:
        with pytest.raises(OptionError, match=message):
            export_potential(potential, tmp_path / name, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt"]
    with pytest.raises(OptionError, match="looks back no step"):
        stepping_of("none", fixed_point)


def test_foreign_damaged_and_newer_files(tmp_path: Path, exported_file: Callable[[str, str], Path]) -> None:
    file = exported_file("equiformer", "torchscript")
    whole = file.read_bytes()
    (tmp_path / "short.pt").write_bytes(whole[: len(whole) // 2])
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "foreign.pt"))
    newer = torch.jit.load(str(file))
    fields = {**vars(read_metadata(file)), "format_version": 99}
    torch.jit.save(newer, str(tmp_path / "newer.pt"), _extra_files={"mlff.json": json.dumps(fields)})
    for name, message in (
        ("short", "cut short"),
        ("foreign", "not written by"),
        ("newer", "version 99"),
        ("none", "No such file"),
    ):
        with pytest.raises(PotentialFileError, match=message):
            load_exported(tmp_path / f"{name}.pt")


def test_batches_are_refused(exported_file: Callable[[str, str], Path]) -> None:
    exported = load_exported(exported_file("equiformer", "torchscript"))
    two = collate([graph_from_atoms(atoms, exported.cutoff) for atoms in structures()[:2]])
    with pytest.raises(MLFFError, match="one system at a time"):
        exported(two)


@pytest.mark.slow
def test_aoti(tmp_path: Path) -> None:
    potential = potential_of("equiformer")
    for kind in ("aoti", "lammps"):
        export_potential(potential, tmp_path / "p.pt2", to=kind, overwrite=True)
        exported = load_exported(tmp_path / "p.pt2")
        assert exported.metadata.backend == "aoti"
        for atoms in structures():
            graph = graph_from_atoms(atoms, potential.cutoff)
            torch.testing.assert_close(exported(graph)["forces"], potential(graph)["forces"], rtol=0, atol=1e-10)
