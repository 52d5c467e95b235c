"""Potential folders: refused files with their error texts, and no incomplete files after failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mlff_calc.backbones.base import backbone_options
from mlff_calc.errors import OptionError, PotentialFileError, RecipeError, UnknownElementError
from mlff_calc.export import load_exported
from mlff_calc.networks.files import FORMAT_VERSION, WEIGHTS, checksum
from mlff_calc.potential import Potential, build_potential, evaluate_atoms, list_potentials, load_potential

CONFIG = {"backbone": {"name": "equiformer", "l_max": 1, "channels": 8, "n_layers": 1}, "elements": ["O", "H"]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return build_potential(CONFIG, seed=0).save(tmp_path / "saved", card="# water\n", recipe="a: 1\n")


def rewrite(folder: Path, **changes: object) -> None:
    """Write the weights again with changed entries of the header."""
    file = folder / WEIGHTS
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["mlff_calc"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, file, metadata={"mlff_calc": json.dumps({**header, **changes})})


@pytest.mark.parametrize("precision", ["float32", "mixed", "float64"])
def test_a_potential_of_any_precision_is_saved_and_loads(tmp_path: Path, precision: str) -> None:
    potential = build_potential(CONFIG, seed=0).to_precision(precision)
    with torch.no_grad():
        next(potential.parameters()).mul_(1.0 + 1e-12)
    loaded = load_potential(potential.save(tmp_path / "saved"))
    assert loaded.precision == "float32"
    for (name, one), other in zip(potential.named_parameters(), loaded.parameters(), strict=True):
        assert other.dtype == torch.float32, name
        assert torch.equal(one.float(), other)


@pytest.mark.parametrize("kind", [["x"], 3, None, {}])
def test_a_kind_that_is_no_word_is_refused(saved: Path, kind: object) -> None:
    rewrite(saved, kind=kind)
    with pytest.raises(PotentialFileError, match="has no sound 'kind'"):
        load_potential(saved)


def test_the_folder_of_a_run_points_to_its_potential(saved: Path) -> None:
    with pytest.raises(PotentialFileError, match=rf"did you mean {saved}\?"):
        load_potential(saved.parent)


def test_round_trip(saved: Path) -> None:
    potential = load_potential(saved)
    assert potential.elements == [1, 8]
    assert not potential.training
    assert sorted(file.name for file in saved.iterdir()) == ["card.md", "recipe.yaml", WEIGHTS]
    assert [file.name for file in saved.parent.iterdir()] == ["saved"]
    assert load_potential(saved / WEIGHTS).elements == [1, 8]


def test_reference_energies_and_scale_survive(tmp_path: Path) -> None:
    config = {**CONFIG, "reference_energies": {"H": -13.6, 8: -2041.0}, "scale": 0.25}
    loaded = load_potential(build_potential(config, seed=0).save(tmp_path / "p"))
    assert loaded.heads["energy"].reference_energies.tolist() == [-13.6, -2041.0]
    assert loaded.heads["energy"].scale.item() == 0.25


def test_an_existing_folder_is_not_overwritten(saved: Path) -> None:
    before = (saved / WEIGHTS).read_bytes()
    with pytest.raises(PotentialFileError, match="exists already"):
        build_potential(CONFIG, seed=1).save(saved)
    assert (saved / WEIGHTS).read_bytes() == before
    build_potential(CONFIG, seed=1).save(saved, overwrite=True)
    assert (saved / WEIGHTS).read_bytes() != before


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        build_potential(CONFIG, seed=1).save(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_truncated(saved: Path) -> None:
    data = (saved / WEIGHTS).read_bytes()
    for length in (0, 7, len(data) // 2, len(data) - 1):
        (saved / WEIGHTS).write_bytes(data[:length])
        with pytest.raises(PotentialFileError, match="truncated"):
            load_potential(saved)


def test_newer_format(saved: Path) -> None:
    rewrite(saved, format_version=FORMAT_VERSION + 1)
    with pytest.raises(PotentialFileError, match=f"version {FORMAT_VERSION + 1}.*upgrade mlff_calc"):
        load_potential(saved)


def _header(folder: Path) -> dict:
    with safe_open(folder / WEIGHTS, framework="pt") as opened:
        return json.loads(opened.metadata()["mlff_calc"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": None}, "no sound 'config'"),
        ({"sha256": 5}, "no sound 'sha256'"),
        ({"format_version": 0}, "format version 0"),
        ({"format_version": "one"}, "damaged"),
    ],
)
def test_damaged_header(saved: Path, change: dict, words: str) -> None:
    rewrite(saved, **change)
    with pytest.raises(PotentialFileError, match=words):
        load_potential(saved)


@pytest.mark.parametrize("key", ["cutoff", "envelope_exponent"])
def test_a_configuration_changed_by_hand_is_refused(saved: Path, key: str) -> None:
    """The tensors would fit, but the energies would differ."""
    config = _header(saved)["config"]
    config["backbone"][key] -= 1
    rewrite(saved, config=config)
    with pytest.raises(PotentialFileError, match="checksum"):
        load_potential(saved)


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": {"name": "of another version"}, "elements": ["H"]},
        {"backbone": "equiformer", "elements": ["H"]},
        {"backbone": {"name": "equiformer", "cutoff": None}, "elements": ["H"]},
        {"backbone": {"name": "equiformer", "channels": "x"}, "elements": ["H"]},
        {"backbone": {"name": "equiformer"}, "elements": "HO"},
        {"backbone": {"name": "equiformer"}, "elements": [["H"]]},
        {"backbone": {"name": "equiformer"}, "elements": ["H"], "reference_energies": [1.0]},
    ],
)
def test_a_configuration_of_no_network(saved: Path, config: dict) -> None:
    header = {**_header(saved), "config": config}
    with safe_open(saved / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    rewrite(saved, config=config, sha256=checksum(tensors, header))
    with pytest.raises(PotentialFileError, match=r"weights\.safetensors does not fit"):
        load_potential(saved)


def test_defaults_are_saved(saved: Path) -> None:
    """A default that changes in a later version must not change what is loaded."""
    config = _header(saved)["config"]
    assert set(config["backbone"]) == {"name", *backbone_options("equiformer")}
    zbl = build_potential({**CONFIG, "repulsion": {"name": "zbl"}}, seed=0)
    assert zbl.config["heads"] == [{"name": "energy", "scale": 1.0}, {"name": "zbl", "reach": 0.8}]
    assert build_potential(zbl.config, seed=0).config == zbl.config
    assert build_potential(config, seed=0).config == config


def test_foreign_tensors(saved: Path) -> None:
    save_file({"x": torch.zeros(2)}, saved / WEIGHTS)
    with pytest.raises(PotentialFileError, match="no mlff_calc header"):
        load_potential(saved)


def test_changed_weights(saved: Path) -> None:
    rewrite(saved, sha256="0" * 64)
    with pytest.raises(PotentialFileError, match="checksum"):
        load_potential(saved)


def test_not_a_potential(tmp_path: Path) -> None:
    with pytest.raises(PotentialFileError, match="is not a potential"):
        load_potential(tmp_path)
    with pytest.raises(PotentialFileError, match="no potential 'nothere'"):
        load_potential("nothere")


def test_shipped_potentials_load() -> None:
    for entry in list_potentials():
        potential = load_potential(entry.name)
        assert potential.elements
        assert entry.summary
        assert (entry.path / WEIGHTS).stat().st_size < 4_000_000
        assert (entry.path / "recipe.yaml").is_file()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"elements": ["H"]}, "needs 'backbone'"),
        ({**CONFIG, "elemnts": ["H"]}, "unknown key 'elemnts'"),
        ({**CONFIG, "elements": ["Xx"]}, "unknown element 'Xx'"),
        ({**CONFIG, "forces": "both"}, "'gradient' or 'direct'"),
        ({**CONFIG, "reference_energies": {"O": -1.0}}, "lacks H"),
        ({**CONFIG, "forces": "direct", "backbone": {"name": "equiformer", "l_max": 0}}, "l_max is 0"),
        ({**CONFIG, "backbone": {"name": "equiformer", "avg_num_neighbors": 0}}, "avg_num_neighbors is 0"),
        ({**CONFIG, "repulsion": {"name": "zlb"}}, "unknown head 'zlb'"),
        ({**CONFIG, "repulsion": {"raech": 1.0}}, "unknown option 'raech'"),
        ({**CONFIG, "repulsion": {"reach": "abc"}}, "reach of head 'zbl' is 'abc'"),
        ({**CONFIG, "repulsion": "zbl"}, "repulsion is 'zbl'"),
        ({**CONFIG, "scale": "abc"}, "scale of head 'energy' is 'abc'"),
        ({**CONFIG, "repulsion": {"reach": 0}}, "reach = 0.0 of head 'zbl'; it must be a positive number"),
        ({**CONFIG, "heads": [{"name": "zbl"}]}, "the heads of a potential are zbl; it needs 'energy', as the first one"),
        ({**CONFIG, "heads": [{"name": "energy"}] * 2}, "the head 'energy' is named twice"),
        ({**CONFIG, "heads": [{"name": "energy"}], "scale": 2.0}, "scale stand for heads"),
        ({**CONFIG, "heads": [{"name": "energy"}, {"name": "displacement"}]}, "reads velocities, horizon"),
        ({**CONFIG, "heads": {"name": "energy"}}, "heads is .* give a list"),
        ({**CONFIG, "elements": "HO"}, "elements is 'HO'"),
        ({**CONFIG, "backbone": {"name": "equiformer", "channels": "x"}}, "channels .* is 'x'"),
        ({**CONFIG, "head": {"name": "enrgy"}}, "unknown head 'enrgy'"),
        ({**CONFIG, "backbone": {"name": "equifomer"}}, "did you mean 'equiformer'"),
        ({**CONFIG, "backbone": {"name": "equiformer", "chanels": 8}}, "did you mean 'channels'"),
        ({**CONFIG, "backbone": {"name": "equiformer", "cutoff": -1.0}}, "must be positive"),
        ({**CONFIG, "backbone": {"name": "equiformer", "l_max": 1, "m_max": 2}}, "above l_max"),
        ({**CONFIG, "backbone": {"name": "equiformer", "heads": 5}}, "multiple"),
    ],
)
def test_wrong_configurations(config: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build_potential(config)


def test_seeds_do_not_touch_the_global_generator() -> None:
    state = torch.random.get_rng_state()
    build_potential(CONFIG, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_precision_and_elements(saved: Path) -> None:
    from ase.build import molecule

    potential = load_potential(saved)
    with pytest.raises(OptionError, match="float32, mixed, float64"):
        potential.to_precision("half")
    with pytest.raises(UnknownElementError, match=r"unknown element C .*atom 0.*knows H O"):
        evaluate_atoms(potential, [molecule("CH4")])
    assert isinstance(potential.to_precision("mixed"), Potential)


def _declare(file: Path, name: str, **changes: object) -> None:
    """Change the entry of one tensor in a safetensors file, without changing its bytes."""
    raw = file.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + n])
    header[name] |= changes
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + n :])


@pytest.mark.parametrize("version", [1, FORMAT_VERSION])
@pytest.mark.parametrize("changes", [{"dtype": "I32"}, {"dtype": "U32"}, {"shape": [8, 2]}, {"shape": [16]}])
def test_the_same_bytes_declared_otherwise_are_refused(saved: Path, version: int, changes: dict) -> None:
    """Such files are refused also in version 1, whose checksum covers only names and bytes."""
    header = {**_header(saved), "format_version": version}
    with safe_open(saved / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    rewrite(saved, format_version=version, sha256=checksum(tensors, header, version))
    assert load_potential(saved).elements == [1, 8]
    name = next(name for name, tensor in tensors.items() if tensor.shape == (2, 8) and tensor.dtype == torch.float32)
    _declare(saved / WEIGHTS, name, **changes)
    with pytest.raises(PotentialFileError, match=r"checksum|does not fit"):
        load_potential(saved)


def test_the_domain_is_kept_and_covered_by_the_checksum(saved: Path) -> None:
    assert load_potential(saved).domain is None
    potential = load_potential(saved)
    potential.domain = {"distances": {"H-O": [0.9, 1.2]}, "neighbors": [1, 4]}
    potential.save(saved, overwrite=True)
    assert load_potential(saved).domain == {"distances": {"H-O": [0.9, 1.2]}, "neighbors": [1, 4]}
    rewrite(saved, domain={"distances": {"H-O": [0.1, 9.0]}, "neighbors": [1, 4]})
    with pytest.raises(PotentialFileError, match="checksum"):
        load_potential(saved)
    rewrite(saved, domain=[1.0])
    with pytest.raises(PotentialFileError, match="not a mapping"):
        load_potential(saved)


def test_an_export_or_a_checkpoint_in_place_of_weights(saved: Path) -> None:
    exported = saved.parent / "p.pt"
    torch.save({"x": torch.ones(2)}, exported)
    (saved / WEIGHTS).write_bytes(exported.read_bytes())
    with pytest.raises(PotentialFileError, match="is an archive, like exported files and checkpoints, and holds no weights"):
        load_potential(saved)
    with pytest.raises(PotentialFileError, match=r"p\.pt is an exported file by its ending.*load_exported"):
        load_potential(exported)


def test_weights_in_place_of_an_export(saved: Path) -> None:
    (saved.parent / "p.pt").write_bytes((saved / WEIGHTS).read_bytes())
    with pytest.raises(PotentialFileError, match=r"holds weights \(safetensors\).*name the folder"):
        load_exported(saved.parent / "p.pt")


@pytest.mark.parametrize("name", ["equiformer", "cg_egnn"])
def test_a_network_far_larger_than_its_file_is_not_built(saved: Path, name: str) -> None:
    """The network is within all bounds of options, but would take some hundred MiB."""
    config = {**CONFIG, "backbone": {"name": name, "channels": 512, "n_layers": 4}}
    header = {**_header(saved), "config": config}
    with safe_open(saved / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    rewrite(saved, config=config, sha256=checksum(tensors, header))
    with pytest.raises(PotentialFileError, match=r"far larger than the \d+ bytes of tensors in the file"):
        load_potential(saved)
