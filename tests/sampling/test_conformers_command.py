"""`mlff conformers` as a user runs it: the same file with any number of workers and after a kill, and 100 molecules."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem, RDConfig

from mlff_calc.datasets.molecules import REASONS, MoleculeError
from mlff_calc.sampling.conformer_search import conformers
from mlff_calc.sampling.writers import as_sdf

NCI = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
NAMED = ("energy_kcal_mol", "relative_energy", "weight_298K", "converged", "rmsd_to_lowest", "source", "seed", "calculator")


def records(path):
    return list(Chem.SDMolSupplier(str(path), removeHs=False))


def test_same_seed_same_file_with_one_worker_and_two(tmp_path, mlff):
    pytest.importorskip("tblite")
    words = ["conformers", "CO[C@H](F)Cl", "-c", "gfn2-xtb", "-n", "2", "--fmax", "0.1", "--no-check", "-q", "--seed", "7"]
    for workers in ("1", "2"):
        done = mlff(*words, "--workers", workers, "-o", f"{workers}.sdf", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1.sdf").read_bytes() == (tmp_path / "2.sdf").read_bytes()
    for mol in records(tmp_path / "1.sdf"):  # bonds, stereo and properties, as another program reads them
        Chem.AssignStereochemistryFrom3D(mol)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles("CO[C@H](F)Cl")
        assert {*NAMED} <= set(mol.GetPropNames())
        assert mol.GetProp("seed") == "7"
        assert mol.GetProp("converged") == "True"
        assert mol.GetConformer().Is3D()
    assert sum(float(mol.GetProp("weight_298K")) for mol in records(tmp_path / "1.sdf")) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["[Na+].[Cl-]", "-c", "ethanol"], "salt or a mixture"),
        (["[CH3]", "-c", "ethanol"], "unpaired electrons"),
        (["CCS", "-c", "ethanol"], "unknown element S"),
        (["CC[O-]", "-c", "ethanol"], "knows no charges"),
        (["two.sdf", "-c", "ethanol"], "holds 2 molecules; give them one by one"),
        (["absent.sdf", "-c", "ethanol"], "no such file"),
        (["CCO", "-c", "ethanol", "--workers", "2"], "leave workers out"),
        (["CCO", "-c", "ethanol", "--minutes", "0"], "minutes is 0"),
        (["CCO", "-c", "ethanol", "--temperature", "-1"], "temperature is -1"),
        (["CCO", "-c", "ethanol", "--rmsd", "-1"], "rmsd is -1"),
        (["CCO", "-c", "ethanol", "--optimizer", "BGFS"], "choose LBFGS, FIRE"),
        (["CCO", "-c", "ethanol", "--steps", "-1"], "steps is -1"),
        (["CCO", "-c", "ethanol", "--search", "exchange", "--temperature", "900"], "ladder of 2 temperatures from 900"),
        (["CCO", "-c", "gfn2-xtb", "--compile"], "cannot be compiled"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, mlff, words, text):
    with Chem.SDWriter(str(tmp_path / "two.sdf")) as writer:
        for smiles in ("CCO", "CC"):
            writer.write(Chem.MolFromSmiles(smiles))
    refused = mlff("conformers", *words, "-n", "2", "-o", "a.sdf", cwd=tmp_path)
    assert refused.returncode == 1
    assert text in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["two.sdf"]


@pytest.mark.slow
def test_a_killed_search_goes_on_and_gives_the_same_file(tmp_path, mlff):
    words = ["conformers", "CCCO", "-c", "gfn2-xtb", "-n", "120", "--screen", "1", "--seed", "2", "--fmax", "0.1",
             "-o", "a.sdf"]  # fmt: skip
    program = [sys.executable, "-c", "from mlff_calc.cli.main import main; main()", *words, "--workers", "1"]
    run = subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    folder, end = tmp_path / ".a.work", time.monotonic() + 300.0
    while not list(folder.glob("*.npz")):
        assert run.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    children = workers_of(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "a.sdf").exists()
    kept = {path.name for path in folder.iterdir()}
    shutil.copytree(tmp_path, tmp_path.with_name("whole"), ignore=lambda *_: [folder.name])
    refused = mlff(*words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "go on with --resume" in refused.stderr
    assert {path.name for path in folder.iterdir()} == kept
    assert mlff(*words, "--resume", cwd=tmp_path).returncode == 0
    assert mlff(*words, cwd=tmp_path.with_name("whole")).returncode == 0
    assert (tmp_path / "a.sdf").read_bytes() == (tmp_path.with_name("whole") / "a.sdf").read_bytes()
    assert not folder.exists()
    assert not any(Path(f"/proc/{child}").exists() for child in children)  # its workers ended with it


def workers_of(pid):
    """Processes of a session, without its leader."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == pid and int(path.name) != pid:
                found.append(int(path.name))
        except (ProcessLookupError, PermissionError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not NCI.is_file(), reason="this RDKit lacks the NCI file")
def test_each_of_100_molecules_ends_with_an_ensemble_or_a_reason():
    pytest.importorskip("tblite")
    chosen = []
    for line in NCI.read_text().splitlines():
        mol = Chem.MolFromSmiles(line.split()[0])
        if mol is not None and 3 <= mol.GetNumHeavyAtoms() <= 20:
            chosen.append(line.split()[0])
    ends = Counter()
    for smiles in chosen[:100]:
        try:
            found = conformers(smiles, "gfn2-xtb", n=2, fmax=0.1, steps=100, check=False)
        except MoleculeError as error:
            ends[error.reason] += 1
            continue
        ends["ensemble"] += 1
        supplier = Chem.SDMolSupplier()
        supplier.SetData(as_sdf(found), removeHs=False)
        stereo = "@" in smiles or "/" in smiles
        for mol in supplier:
            if stereo:
                Chem.AssignStereochemistryFrom3D(mol)
            assert Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=stereo) == Chem.CanonSmiles(smiles)
    assert ends.total() == 100
    assert set(ends) <= {"ensemble", *REASONS}
    assert ends["ensemble"] >= 95
