"""Checkpoints that are damaged, malicious or of another run raise one clear error, and their code never runs."""

from __future__ import annotations

import io
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlff_calc.errors import TrainingError
from mlff_calc.training.checkpoint_files import load_tensors, save_tensors
from mlff_calc.training.metrics import read_metrics
from mlff_calc.training.run import train

Project = Callable[..., Path]
CONTENT = {"weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}, "epoch": 3, "loss": 0.5}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_tensors(CONTENT, tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


def test_round_trip(saved: Path) -> None:
    """Checkpoints can be read by torch alone, and files written by torch can be read as checkpoints."""
    for found in (load_tensors(saved), torch.load(saved, weights_only=True)):
        assert found["epoch"] == 3
        torch.testing.assert_close(found["weights"], CONTENT["weights"], rtol=0, atol=0)
    torch.save(CONTENT, saved)
    assert load_tensors(saved)["loss"] == 0.5


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    whole, generator = saved.read_bytes(), random.Random(1)
    places = [*range(len(whole) - 130, len(whole)), *(generator.randrange(len(whole)) for _ in range(150))]
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << generator.randrange(8)
        saved.write_bytes(bytes(content))
        with pytest.raises(TrainingError, match=r"cannot be read as a checkpoint.*--overwrite"):
            load_tensors(saved)


@pytest.mark.parametrize("length", [0, 1, 21, 200, -1, -22, -93, -94])
def test_cut(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(TrainingError, match="cannot be read as a checkpoint"):
        load_tensors(saved)


class Runs:
    def __init__(self, name: Path) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.name),)


def test_foreign_files(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    buffer = io.BytesIO()
    torch.save({"epoch": Runs(marker)}, buffer)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    for content in (buffer.getvalue(), pickle.dumps(Runs(marker)), b"\0" * 1000, packed.getvalue(), b"PK\5\6" + bytes(18)):
        saved.write_bytes(content)
        with pytest.raises(TrainingError, match="cannot be read as a checkpoint"):
            load_tensors(saved)
    save_tensors([1, 2], saved)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="it holds list"):
        load_tensors(saved)
    saved.unlink()
    os.mkfifo(saved)
    with pytest.raises(TrainingError, match="is a pipe"):
        load_tensors(saved)
    assert not marker.exists()


def change(file: Path, dotted: str, value: object) -> None:
    """Write a checkpoint with a changed value and a matching checksum."""
    content = torch.load(file, weights_only=True)
    *parents, last = dotted.split(".")
    place = content
    for key in parents:
        place = place[int(key) if isinstance(place, list) or key.isdigit() else key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value(place[last]) if callable(value) else value
    save_tensors(content, file)


BEST = "callbacks.Checkpoints.best"
WEIGHT = "potential.heads.energy.hidden.weight"
CHANGES: dict[str, tuple[str, object]] = {
    "no weights": ("state_dict", KeyError),
    "epoch": ("epoch", -1),
    "callbacks": ("callbacks", []),
    "average": ("callbacks.AveragedWeights.average", lambda old: old[:-1]),
    "seconds": ("callbacks.BudgetKeeper.seconds", float("nan")),
    "best_epoch": ("callbacks.Checkpoints.best_epoch", "x"),
    "best weights": (f"{BEST}.weights", {"x": torch.ones(1)}),
    "best is no mapping": (BEST, 3),
    "random": ("random.cpu", torch.zeros(3, dtype=torch.uint8)),
    "loops": ("loops", None),
    "version": ("pytorch-lightning_version", -1.0),
    "optimizer": ("optimizer_states", []),
    "no moments": ("optimizer_states.0.state", {}),
    "no loop": ("loops.fit_loop", KeyError),
    "moments": ("optimizer_states.0.state.0.exp_avg", torch.zeros(1, 1)),
    "betas": ("optimizer_states.0.param_groups.0.betas", (2.0, 0.1)),
}


def test_checkpoints_of_another_kind_than_a_run_writes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is killed in its second epoch; each test then changes its checkpoint in another way."""
    from mlff_calc.training.module import TrainingModule

    path, run, step = project(), tmp_path / "run", TrainingModule.training_step

    def stopped(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        if self.trainer.current_epoch == 1:
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stopped)
        with pytest.raises(KeyError, match="stop"):
            train(path)
    for case, (dotted, value) in CHANGES.items():
        shutil.copytree(run, tmp_path / case)
        change(tmp_path / case / "checkpoints" / "last.ckpt", dotted, value)
        with pytest.raises(TrainingError, match=r"(?s)last\.ckpt.*--overwrite"):
            train(path, output=tmp_path / case, resume=True)
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for name, value in ((WEIGHT, torch.full_like(content["state_dict"][WEIGHT], float("nan"))), (WEIGHT, torch.ones(3))):
        save_tensors(content | {"state_dict": content["state_dict"] | {name: value}}, run / "checkpoints" / "last.ckpt")
        with pytest.raises(TrainingError, match=r"state_dict\.potential.*(not finite|tensor \[3\])"):
            train(path, resume=True)
    save_tensors(content, run / "checkpoints" / "last.ckpt")
    (run / "metrics.csv").write_text("epoch,step\n1,x\n")
    with pytest.raises(TrainingError, match=r"metrics\.csv, row 1: 'step' is 'x'"):
        train(path, resume=True)
    (run / "metrics.csv").unlink()  # the cure in the message
    (run / "checkpoints" / "best.ckpt").write_bytes(b"")  # last.ckpt contains the best weights as well, so nothing is lost
    assert train(path, resume=True).report.frames == 4


@pytest.mark.parametrize(
    "record", ["[]", "3", "[" * 100_000, '{"set_up": 1}', '{"data": []}', '{"data": {"train": 3}}', '{"finished": Infinity}']
)
def test_records_of_another_kind(project: Project, tmp_path: Path, record: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(record)
    with pytest.raises(TrainingError, match=r"run\.json: cannot be read .*--overwrite"):
        train(project(), resume=True)


@pytest.mark.parametrize("text", ["epoch\n1.5\n", "step\n1\n", "epoch,a\n1\n", "epoch\n1,2\n", "\0", "epoch\n" + "9" * 400])
def test_metrics_that_are_no_table_of_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,a\n1,\n2,nan\n")
    assert [row["epoch"] for row in read_metrics(tmp_path / "metrics.csv")] == ["1", "2"]
    assert read_metrics(tmp_path / "none.csv") == []
    (tmp_path / "metrics.csv").write_text(text + ("\n1\n" if text == "\0" else ""))
    with pytest.raises(TrainingError, match=r"metrics\.csv"):
        read_metrics(tmp_path / "metrics.csv")
