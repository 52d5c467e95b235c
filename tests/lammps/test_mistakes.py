"""Every mistake gives one clear LAMMPS error with value, place and cure."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from ase import Atoms

from .conftest import HEAD, Engine, noble, setup, write_data
from .models import Failing, LennardJones, metadata, save, save_contraction

pytestmark = pytest.mark.lammps

NUMBERS = [18, 10]
STYLE = "pair_style mlff"


@pytest.fixture
def written(engine: Engine) -> Engine:
    """Engine with atoms.data and lj.pt in its folder."""
    write_data(noble((2, 2, 2)), engine.folder / "atoms.data", NUMBERS)
    save(LennardJones(0.0104, 3.4, 8.0), engine.folder / "lj.pt", metadata(8.0, 1))
    return engine


def with_metadata(engine: Engine, **changes: object) -> str:
    save(LennardJones(0.0104, 3.4, 8.0), engine.folder / "changed.pt", metadata(8.0, 1, **changes))
    return f"{setup(STYLE, 'changed.pt')}run 0\n"


def test_unknown_element(written: Engine) -> None:
    said = written.refusal(f"{setup(STYLE, 'lj.pt', ['Ar', 'Xe'])}run 0\n", 2)
    assert "element Xe of atom type 2 is not in lj.pt, which knows Ar Ne" in said


def test_wrong_number_of_elements(written: Engine) -> None:
    assert "element" in written.refusal(f"{setup(STYLE, 'lj.pt', ['Ar'])}run 0\n").lower()


def test_wrong_units(written: Engine) -> None:
    said = written.refusal(f"{setup(STYLE, 'lj.pt')}run 0\n".replace("units metal", "units real"))
    assert "units are real; write units metal" in said


@pytest.mark.parametrize(("style", "n_ranks"), [(STYLE, 2), ("pair_style mlff ghosts", 1)])
def test_newton_off(written: Engine, style: str, n_ranks: int) -> None:
    said = written.refusal(f"{setup(style, 'lj.pt')}run 0\n".replace("newton on", "newton off"), n_ranks)
    assert "newton is off for pairs; write newton on" in said


def test_newton_off_on_one_rank_is_fine(written: Engine) -> None:
    text = f"{setup(STYLE, 'lj.pt')}#RUN\nrun 0\n"
    assert written.run(text.replace("newton on", "newton off")).energy == pytest.approx(written.run(text).energy)


def test_missing_file(written: Engine) -> None:
    assert "there is no readable file nothere.pt" in written.refusal(f"{setup(STYLE, 'nothere.pt')}run 0\n", 2)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_truncated_file(written: Engine, share: float) -> None:
    whole = (written.folder / "lj.pt").read_bytes()
    (written.folder / "cut.pt").write_bytes(whole[: int(share * len(whole))])
    said = written.refusal(f"{setup(STYLE, 'cut.pt')}run 0\n")
    assert "cut.pt is not a potential exported for LAMMPS, or is truncated" in said
    assert "mlff export" in said


def test_foreign_files(written: Engine) -> None:
    (written.folder / "text.pt").write_text("Ar 1.0\n")
    with zipfile.ZipFile(written.folder / "zip.pt", "w") as archive:
        archive.writestr("zip/data.txt", "nothing")
    torch.jit.save(torch.jit.script(LennardJones(1.0, 1.0, 2.0)), str(written.folder / "plain.pt"))
    for name in ("text.pt", "zip.pt", "plain.pt"):
        assert f"{name} is not a potential exported for LAMMPS" in written.refusal(f"{setup(STYLE, name)}run 0\n")


def test_newer_format(written: Engine) -> None:
    said = written.refusal(with_metadata(written, format_version=99))
    assert "format version 99 is newer than this plugin reads (4); update mlff_calc" in said


def test_another_kind(written: Engine) -> None:
    said = written.refusal(with_metadata(written, kind="torchscript"))
    assert "the file is of kind torchscript, LAMMPS needs kind lammps" in said


def test_another_format(written: Engine) -> None:
    assert "not a file of mlff_calc" in written.refusal(with_metadata(written, format="other"))


def test_wrong_dtype(written: Engine) -> None:
    assert "dtype float16 is neither float32 nor float64" in written.refusal(with_metadata(written, dtype="float16"))


def test_description_without_a_field(written: Engine) -> None:
    facts = metadata(8.0, 1)
    del facts["cutoff"]
    save(LennardJones(0.0104, 3.4, 8.0), written.folder / "less.pt", facts)
    assert "its description is damaged" in written.refusal(f"{setup(STYLE, 'less.pt')}run 0\n")


def test_outputs_that_break_their_promise(written: Engine) -> None:
    names = {"outputs": ["forces", "energies", "atomic_virial"]}
    assert "output energies has a wrong shape" in written.refusal(with_metadata(written, **names))
    said = written.refusal(with_metadata(written, inputs=["atomic_numbers", "charges"]))
    assert "asks for an input charges, which this plugin does not know" in said


def test_no_file_given(written: Engine) -> None:
    said = written.refusal(f"{HEAD}read_data atoms.data\npair_style mlff\nrun 0\n")
    assert "pair coeff" in said.lower()
    assert "write pair_coeff * * FILE" in written.refusal(
        f"{HEAD}read_data atoms.data\n{STYLE}\npair_coeff * * lj.pt\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("fast", "fast is no option, or lacks its value"),
        ("speed 3", "speed is no option; there are ghosts, tolerance X, reset yes"),
        ("tolerance 0", "tolerance 0 is not above zero"),
        ("tolerance", "tolerance is no option, or lacks its value"),
        ("domain maybe", "domain maybe is neither warn nor stop nor off"),
        ("domain", "domain is no option, or lacks its value"),
        ("domain stop", "domain stop: lj.pt has no threshold for spreads of forces, as potentials of mlff distill do"),
        ("device tpu", "device tpu is neither cpu nor cuda"),
        ("device cuda:x", "device cuda:x is neither cpu nor cuda"),
        ("device cuda", "exported for cpu, and pair_style mlff asks for cuda"),
        ("device cuda:1", "exported for cpu, and pair_style mlff asks for cuda"),
        ("tolerance 1e-3", "tolerance is for fixed-point potentials, and lj.pt is none"),
    ],
)
def test_options(written: Engine, options: str, message: str) -> None:
    assert message in written.refusal(f"{setup(f'{STYLE} {options}', 'lj.pt')}run 0\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this PyTorch has CUDA devices")
def test_no_cuda_device(written: Engine) -> None:
    text = with_metadata(written, device="cuda").replace(STYLE, f"{STYLE} device cuda")
    assert "PyTorch sees 0 CUDA devices" in written.refusal(text)


def test_a_new_style_forgets_the_file(written: Engine) -> None:
    """LAMMPS keeps the object of a style with the same name, but its file was chosen for the old settings."""
    save_contraction(written.folder / "deq.pt")
    text = f"{setup(STYLE, 'deq.pt')}run 0\n{STYLE} ghosts\nrun 0\n"
    assert "coeff" in written.refusal(text).lower()
    status, said = written.start(f"{setup(STYLE, 'deq.pt')}run 0\n{STYLE}\npair_coeff * * lj.pt Ar Ne\nrun 0\n")
    assert status == 0, said[-2000:]


def test_pairs_that_lists_leave_out(written: Engine) -> None:
    said = written.refusal(f"{setup(STYLE, 'lj.pt')}neigh_modify exclude type 1 2\nrun 0\n")
    assert "hold atoms by fix setforce instead" in said


def test_compiled_code_of_another_torch(written: Engine) -> None:
    """The file is refused because of its metadata, before its code is opened."""
    said = written.refusal(with_metadata(written, backend="aoti", torch="2.12.1+cpu"))
    assert "its code was compiled by PyTorch 2.12.1+cpu" in said
    assert "write it again with: mlff export POTENTIAL --to lammps -o FILE" in said


def test_a_failing_network_gives_the_reason_in_one_line(written: Engine) -> None:
    save(Failing(), written.folder / "failing.pt", metadata(8.0, 1))
    said = written.refusal(f"{setup(STYLE, 'failing.pt')}run 0\n")
    assert "the network failed in step 0" in said
    assert "no such luck" in said
    assert "Traceback" not in said


def test_ghosts_of_a_fixed_point(written: Engine) -> None:
    save_contraction(written.folder / "deq.pt")
    said = written.refusal(f"{setup(f'{STYLE} ghosts', 'deq.pt')}run 0\n")
    assert "the fixed point of deq.pt reaches through all atoms; leave out ghosts" in said


@pytest.mark.parametrize(("word", "message"), [("MLFF_TORCH", "PyTorch"), ("MLFF_LAMMPS", "LAMMPS")])
def test_a_plugin_for_other_versions(written: Engine, tmp_path: Path, word: str, message: str) -> None:
    """The version in the file differs."""
    other = tmp_path / "other"
    other.mkdir()
    library = (written.plugins / "mlffplugin.so").read_bytes()
    place = library.index(f"{word} ".encode()) + len(word) + 1
    digit = b"1" if library[place : place + 1] != b"1" else b"3"
    (other / "mlffplugin.so").write_bytes(library[:place] + digit + library[place + 1 :])
    said = Engine(other, written.folder).refusal(f"{setup(STYLE, 'lj.pt')}run 0\n")
    assert f"was built for {message}" in said
    assert "mlff lammps build" in said


def test_a_file_that_is_no_plugin(written: Engine, tmp_path: Path) -> None:
    """LAMMPS continues after a plugin that cannot be loaded, and then does not know the pair style."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "mlffplugin.so").write_text("no library")
    assert "Unrecognized pair style 'mlff'" in Engine(other, written.folder).refusal(f"{setup(STYLE, 'lj.pt')}run 0\n")


def test_cutoff_larger_than_the_box(written: Engine) -> None:
    """Bricks of LAMMPS support this (see test_plugin.py); the tiled decomposition gives an error."""
    write_data(noble((1, 1, 1), noise=0.05), written.folder / "atoms.data", NUMBERS)
    text = f"{setup(STYLE, 'lj.pt')}comm_style tiled\nbalance 1.1 rcb\nrun 0\n"
    assert "cutoff" in written.refusal(text, 2).lower()


def test_no_tags(written: Engine) -> None:
    text = (
        f"{HEAD}atom_modify id no\nlattice fcc 5.26\nregion b block 0 3 0 3 0 3\ncreate_box 2 b\ncreate_atoms 1 box\n"
    )
    said = written.refusal(f"{text}mass * 40\n{STYLE}\npair_coeff * * lj.pt Ar Ne\nrun 0\n")
    assert "needs atom IDs" in said


def test_bonded_atoms_that_lists_leave_out(written: Engine) -> None:
    data = (
        "bonds\n\n2 atoms\n1 bonds\n1 atom types\n1 bond types\n\n0 20 xlo xhi\n0 20 ylo yhi\n0 20 zlo zhi\n\n"
        "Masses\n\n1 40\n\nAtoms # bond\n\n1 1 1 5 5 5\n2 1 1 8 5 5\n\nBonds\n\n1 1 1 2\n"
    )
    (written.folder / "bonds.data").write_text(data)
    text = "units metal\natom_style bond\nbond_style zero\nread_data bonds.data\nbond_coeff *\n"
    end = f"{STYLE}\npair_coeff * * lj.pt Ar\nrun 0\n"
    assert "write special_bonds lj/coul 1 1 1" in written.refusal(text + end)
    status, _ = written.start(f"{text}special_bonds lj/coul 1 1 1\n{end}")
    assert status == 0


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_not_a_number_stops_the_run(written: Engine, n_ranks: int) -> None:
    """Two atoms approach each other; below 3 Angstrom the energy is NaN on one of two ranks."""
    save(LennardJones(0.0104, 3.4, 8.0, spoil=True), written.folder / "spoiled.pt", metadata(8.0, 1))
    atoms = Atoms("Ar2", [[10, 10, 2.0], [10, 10, 6.5]], cell=[20, 20, 40], pbc=True)
    write_data(atoms, written.folder / "atoms.data", NUMBERS)
    text = setup(STYLE, "spoiled.pt") + "velocity all zero linear\nset atom 1 vz 20.0\nset atom 2 vz -20.0\n"
    text += "fix 1 all nve\ntimestep 0.001\nthermo 1\nrun 1000\n"
    said = written.refusal(text, n_ranks)
    assert "energy or forces are not finite in step" in said
    assert f"on 1 of {n_ranks} ranks" in said
    step = int(said.split("in step ")[1].split()[0])
    assert 10 < step < 60


def test_the_fix_of_the_memories_is_not_for_users(written: Engine) -> None:
    text = f"{setup(STYLE, 'lj.pt')}fix m all mlff/memory\nrun 0\n"
    assert "is made by pair style mlff, not by input files" in written.refusal(text)
    save_contraction(written.folder / "deq.pt")
    gone = written.refusal(f"{setup(STYLE, 'deq.pt')}run 0\nunfix mlff_memory\nrun 0\n")
    assert "its fix mlff_memory is gone; do not unfix it" in gone
