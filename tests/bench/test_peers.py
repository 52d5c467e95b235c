"""The logic of paired runs with real worker processes, but without peers that need an installation."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from mlff_calc.bench import build_system, random_config
from mlff_calc.bench.peers import frames, mace_build, nequip_build, timed_schedule
from mlff_calc.bench.peers.catalogue import PEERS, parse_peers
from mlff_calc.bench.peers.environments import ensure_environment, installed_versions, torch_pin
from mlff_calc.bench.peers.paired import paired_ratio, run_rounds
from mlff_calc.bench.peers.run import PeerRun
from mlff_calc.bench.peers.session import Session
from mlff_calc.bench.processes import run_logged
from mlff_calc.bench.train import shipped_recipe_file
from mlff_calc.errors import BenchmarkError, MLFFError, OptionError
from mlff_calc.training.recipe import load_recipe, parse_recipe


def test_choosing_peers() -> None:
    assert [peer.name for peer in parse_peers("mace,nequip")] == ["mace-64", "mace-128", "nequip"]
    assert [peer.name for peer in parse_peers("ace,snap-8")] == ["ace-300", "ace-700", "snap-8"]
    assert [peer.name for peer in parse_peers(None)] == list(PEERS)
    with pytest.raises(OptionError, match=r"unknown peer 'nequib'; did you mean 'nequip'"):
        parse_peers("nequib")


@pytest.mark.parametrize("name", ["nequip", "allegro"])
def test_training_configuration_survives_yaml(name: str) -> None:
    config = nequip_build.training_config(PEERS[name], ["H", "C"], Path("/a/t.xyz"), Path("/a/v.xyz"), minutes=90.5)
    assert yaml.safe_load(yaml.safe_dump(config)) == config
    assert config["trainer"]["callbacks"][1] == {"_target_": "timed_stop.EndOfBudget", "minutes": 90.5}
    assert config["training_module"]["model"]["compile_mode"] == "compile"
    assert config["training_module"]["model"]["type_names"] == ["H", "C"]
    quick = nequip_build.training_config(PEERS[name], ["Si"], Path("t"), Path("t"), minutes=None)
    assert quick["trainer"]["limit_train_batches"] == 1
    assert "lr_scheduler" not in quick["training_module"]


def test_mace_gets_the_frames_and_the_budget(tmp_path: Path) -> None:
    words = mace_build.train_command(PEERS["mace-64"], Path("t.xyz"), Path("v.xyz"), tmp_path, tmp_path, 2.5)
    assert words[words.index("2.5") - 1].endswith("mace_train.py")
    assert "--hidden_irreps=64x0e + 64x1o" in words
    assert Path(words[3]).is_file()


def fake(milliseconds: float, log: list[tuple[int, int]], fail_at: int | None = None):
    def ask(command: str, key: str, frames: str, start: int, steps: int) -> dict:
        if fail_at is not None and start >= fail_at:
            raise BenchmarkError("it broke")
        log.append((start, steps))
        return {"seconds": [1.0] + [1e-3 * milliseconds] * (steps - 1) if log[1:] else [1e-3 * milliseconds] * steps}

    return ask


def test_programs_take_turns_on_the_same_frames() -> None:
    mine: list[tuple[int, int]] = []
    theirs: list[tuple[int, int]] = []
    seconds, failures = run_rounds(
        {"a": fake(2.0, mine), "b": fake(5.0, theirs)}, "x", Path("f"), rounds=4, turn_seconds=0.05
    )
    assert not failures
    assert mine == theirs
    starts, counts = zip(*mine[1:], strict=True)
    assert set(counts) == {11}  # ten steps of the slowest program fill the turn, after one step that warms the caches
    assert np.diff(starts).tolist() == [11, 11, 11]  # all frames in order
    assert seconds["a"].shape == (4, 10)  # without the slow first step of each turn
    ratio = paired_ratio(seconds["a"], seconds["b"])
    assert ratio.median == pytest.approx(0.4)


def test_a_ratio_does_not_see_a_drift_that_hits_both() -> None:
    rng = np.random.default_rng(0)
    drift = np.linspace(1.0, 3.0, 9)[:, None] * rng.uniform(0.999, 1.001, (9, 5))
    ratio = paired_ratio(2.0 * drift, 4.0 * drift)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_program_that_breaks_leaves_the_others_running() -> None:
    seconds, failures = run_rounds(
        {"good": fake(1.0, []), "bad": fake(1.0, [], fail_at=50), "worse": fake(1.0, [], fail_at=0)},
        "x",
        Path("f"),
        rounds=5,
        turn_seconds=1.0,
    )
    assert set(seconds) == {"good"}
    assert failures == {"bad": "it broke", "worse": "it broke"}


def test_a_worker_times_our_calculator(tmp_path: Path) -> None:
    path = frames.write_motion("ethanol", tmp_path, 6)
    options = {"potential": None, "config": random_config(Atoms("HCO")), "precision": "float32", "compiled": False}
    with Session(Path(sys.executable), threads=1, log=tmp_path / "worker.log") as session:
        assert session.ask("load", key="e", loader="mlff", options=options)["note"] == "eager"
        reply = session.ask("time", key="e", frames=str(path), start=4, steps=4)  # frames are used cyclically
        assert len(reply["seconds"]) == 4
        assert min(reply["seconds"]) > 0.0
        with pytest.raises(BenchmarkError, match=r"'time' failed in the worker: KeyError: 'nobody'"):
            session.ask("time", key="nobody", frames=str(path), start=0, steps=1)
        again = session.ask("time", key="e", frames=str(path), start=4, steps=4)
        assert again["energy"] == pytest.approx(reply["energy"], abs=1e-4)


def test_a_dead_worker_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    with Session(Path(sys.executable), threads=1, log=tmp_path / "worker.log") as session:
        session._process.kill()
        with pytest.raises(BenchmarkError, match="the worker died during 'load'"):
            session.ask("load", key="e", loader="mlff", options={})


def test_a_run_reports_failures_and_continues(tmp_path: Path) -> None:
    (tmp_path / "nequip").write_text("a file where the environment should be")
    run = PeerRun(
        peers=parse_peers("nequip"), systems=["ethanol"], threads=[1], workdir=tmp_path, rounds=2, turn_seconds=0.01,
        compiled=False,
    )  # fmt: skip
    result = json.loads(json.dumps(run.run()))
    assert [(failure["program"], failure["place"]) for failure in result["failures"]] == [("nequip", "installation")]
    (timing,) = result["timings"]
    assert timing["program"] == "mlff_calc"
    assert timing["steps"] == 2 * 3
    assert timing["ms"]["minimum"] <= timing["ms"]["median"]


def test_peers_get_the_frames_of_the_recipe(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFF_DATA", str(data_dir))
    paths = frames.write_parts(load_recipe(shipped_recipe_file("ethanol")), tmp_path)
    found = {part: read(path, ":") for part, path in paths.items()}
    assert {part: len(images) for part, images in found.items()} == {"train": 950, "validation": 50, "test": 500}
    with np.load(data_dir / "rmd17/ethanol.npz") as data:
        for number in (0, 499):
            energy, forces = float(data["E_test"].reshape(-1)[number]), data["F_test"][number]
            assert found["test"][number].get_potential_energy() == pytest.approx(energy * 0.04336410390, abs=1e-6)
            np.testing.assert_allclose(found["test"][number].get_forces(), forces * 0.04336410390, atol=1e-6)
        known = {np.round(positions[0], 4).tobytes() for positions in np.asarray(data["R_train"], dtype=float)}
    fitted = {np.round(atoms.positions[0], 4).tobytes() for atoms in found["train"] + found["validation"]}
    assert fitted == known
    assert found["train"][0].cell.rank == 3  # in a wide box, which NequIP needs


def test_own_data_of_peers(tmp_path: Path) -> None:
    """Frames of several sizes are taken from a recipe with a test part, without which it is refused."""
    images = []
    for number, size in enumerate((8, 8, 64, 8)):
        atoms = build_system(f"si{size}")
        forces = np.full((size, 3), 0.5 + number)
        atoms.calc = SinglePointCalculator(atoms, energy=-4.0 * size - number, forces=forces)
        images.append(atoms)
    write(tmp_path / "own.extxyz", images)
    recipe = {
        "potential": {"backbone": {"name": "hegnn", "cutoff": 4.0}},
        "data": {"train": "own.extxyz", "split": {"valid": 1, "test": 1}},
        "optimizer": {"max_epochs": 1},
    }
    paths = frames.write_parts(parse_recipe(recipe, tmp_path / "recipe.yaml"), tmp_path / "parts")
    found = [read(paths[part], ":") for part in ("train", "validation", "test")]
    assert [len(part) for part in found] == [2, 1, 1]
    energies = sorted(atoms.get_potential_energy() for part in found for atoms in part)
    assert energies == pytest.approx(sorted(-4.0 * len(a) - k for k, a in enumerate(images)))
    options = {"potential": None, "config": random_config(Atoms("Si")), "precision": "float32", "compiled": False}
    with Session(Path(sys.executable), threads=1, log=tmp_path / "worker.log") as session:
        session.ask("load", key="t", loader="mlff", options=options)
        reply = session.ask("errors", key="t", frames=str(paths["train"]))
    assert 0.0 < reply["force_mae"] <= reply["force_rmse"]
    recipe["data"]["split"] = {"valid": 1}
    with pytest.raises(BenchmarkError, match=r"no test part to judge by; add data\.test"):
        frames.write_parts(parse_recipe(recipe, tmp_path / "recipe.yaml"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_missing_data_give_the_cure(tmp_path: Path) -> None:
    run = PeerRun(parse_peers("nequip"), ["ethanol"], [1], tmp_path / "work", train_minutes=1.0, data=tmp_path / "no")
    with pytest.raises(MLFFError, match=r"no/rmd17/ethanol\.npz"):
        run.run()
    assert not (tmp_path / "work").exists()  # nothing was installed


def test_random_labels_can_be_read(tmp_path: Path) -> None:
    frames.write_random_labels(build_system("si8"), tmp_path / "r.extxyz")
    images = read(tmp_path / "r.extxyz", ":")
    assert len(images) == 4
    assert images[0].get_forces().shape == (8, 3)
    assert images[0].pbc.all()


def test_commands_that_fail_or_hang(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(BenchmarkError, match="status 3: the reason"):
        run_logged([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], log)
    with pytest.raises(BenchmarkError, match="longer than 1 s"):
        run_logged([sys.executable, "-c", "import time; time.sleep(60)"], log, timeout=1.0)


def test_environments(tmp_path: Path) -> None:
    nequip = PEERS["nequip"].environment
    assert installed_versions(nequip, tmp_path) is None
    assert torch_pin() == f"torch=={torch.__version__.split('+')[0]}"
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        ensure_environment(nequip, tmp_path / "file")


def test_schedule_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = timed_schedule.TimedCosine(optimizer, minutes=10.0)
    now[0] += 500.0  # time of compilation, before the clock starts

    def rate_after(seconds: float) -> float:
        now[0] += seconds
        optimizer.step()
        schedule.step()
        return optimizer.param_groups[0]["lr"]

    assert rate_after(0.0) == pytest.approx(0.01)
    assert rate_after(6.0) == pytest.approx(1.0, abs=1e-3)
    assert rate_after(294.0) == pytest.approx(0.505)
    assert rate_after(300.0) == pytest.approx(0.01)
    assert rate_after(1e4) == pytest.approx(0.01)
