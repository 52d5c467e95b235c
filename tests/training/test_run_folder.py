"""The folder of a run: set-up that was interrupted, leftovers of a kill, and the copies of the recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mlff_calc.errors import RecipeError, TrainingError
from mlff_calc.locks import folder_lock
from mlff_calc.networks import read_header
from mlff_calc.potential import load_potential
from mlff_calc.training import folder, run_folder
from mlff_calc.training.callbacks import AveragedWeights, MetricsFile
from mlff_calc.training.potential import task as potential_task
from mlff_calc.training.recipe import load_recipe, parse_recipe
from mlff_calc.training.recipe_copies import shipped_command, shipped_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]


class _KillError(Exception):
    pass


def killed(*arguments: object, **options: object) -> None:
    raise _KillError


@pytest.mark.parametrize("where", ["first record", "files", "recipe", "last record"])
@pytest.mark.parametrize("older", [False, True], ids=["new folder", "over an older run"])
def test_a_set_up_that_was_interrupted_locks_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, where: str, older: bool
) -> None:
    path = project(optimizer__max_epochs=1)
    run = path.parent / "run"
    if older:
        train(path)
    written = []

    def write(target: Path, content: str) -> None:
        if len(written) == {"first record": 0, "recipe": 1, "last record": 2}.get(where, -1):
            target.with_name(f".{target.name}.123.tmp").write_text("half")
            raise _KillError
        written.append(target)
        target.write_text(content)

    with monkeypatch.context() as patch:
        for module in (folder, run_folder):
            patch.setattr(module, "write_whole", write)
        if where == "files":
            patch.setattr(run_folder, "remove_leftovers", killed)
        with pytest.raises(_KillError):
            train(path, overwrite=older)
    if older and where == "first record":  # the process was killed before it changed anything
        with pytest.raises(TrainingError, match="holds a run already"):
            train(path)
    else:
        with pytest.raises(TrainingError, match="no run to resume"):
            train(path, resume=True)
    result = train(path, overwrite=older and where == "first record")
    assert load_potential(result.model).elements == [29]
    assert not list(run.rglob("*.tmp"))


def test_leftovers_of_a_kill_are_removed_and_other_files_are_not(project: Project) -> None:
    result = train(project(optimizer__max_epochs=1))
    record = json.loads((result.folder / "run.json").read_text())
    (result.folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    left = [result.folder / ".metrics.csv.99.tmp", result.folder / "checkpoints" / ".last.ckpt.99.tmp"]
    left.append(result.folder / ".potential-abc" / "weights.safetensors")
    mine = [result.folder / "notes.tmp", result.folder / ".mine.1.tmp"]
    for file in (*left, *mine):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    train(result.folder.parent / "recipe.yaml", resume=True)
    assert not any(file.exists() for file in left)
    assert not left[-1].parent.exists()
    assert all(file.exists() for file in mine)


def test_the_copy_in_the_folder_of_the_run_runs_from_there(project: Project, tmp_path: Path) -> None:
    path = project(optimizer__max_epochs=1)
    result = train(path)
    copy = result.folder / "recipe.yaml"
    again = train(copy, output=tmp_path / "elsewhere" / "again")
    assert again.report.errors == result.report.errors
    with pytest.raises(TrainingError, match="run: this run is finished"):  # the text names the folder of the run
        train(copy, resume=True)
    shipped = yaml.safe_load((again.model / "recipe.yaml").read_text())
    assert (shipped["data"]["train"], shipped["output"]) == ("cu.extxyz", "run")
    texts = [file.read_text(errors="replace") for file in again.model.iterdir()]
    assert not any(str(tmp_path) in text for text in texts)


def test_a_run_continues_after_its_data_were_moved(project: Project, tmp_path: Path) -> None:
    path = project(optimizer__max_epochs=1)
    result = train(path)
    record = json.loads((result.folder / "run.json").read_text())
    (result.folder / "run.json").write_text(json.dumps(record | {"finished": False}))
    shutil.move(tmp_path / "cu.extxyz", tmp_path / "moved.extxyz")
    train(path, resume=True, overrides=["data.train=moved.extxyz"])


def test_no_path_of_the_machine_ships(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    path = project(optimizer__max_epochs=1, data__train="${SOME_DATA}/cu.extxyz", output=str(tmp_path / "run"))
    result = train(path, command=f"mlff train {path} --set card.title='tiny copper' --output={tmp_path}/run")
    kept = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    shipped = yaml.safe_load((result.model / "recipe.yaml").read_text())
    assert kept["data"]["train"] == shipped["data"]["train"] == "${SOME_DATA}/cu.extxyz"
    assert (kept["output"], shipped["output"]) == (str(tmp_path / "run"), "run")
    command = "mlff train recipe.yaml --set 'card.title=tiny copper' --output=run"
    assert command in (result.model / "card.md").read_text()
    assert read_header(result.model)["provenance"]["command"] == command
    assert not any(str(tmp_path) in file.read_text(errors="replace") for file in result.model.iterdir())


def test_paths_that_ship() -> None:
    recipe = yaml.safe_load("""
        fine_tune_from: /data/start
        data:
          train: {file: ~/a.xyz, index: ":5"}
          valid: ../b.xyz
          test: /data/c.xyz
        optimizer: {max_epochs: 1}
    """)
    shipped = shipped_recipe(parse_recipe(recipe, "/x/r.yaml"))
    assert shipped["fine_tune_from"] == "start"
    assert shipped["data"] == {"train": {"file": "a.xyz", "index": ":5"}, "valid": "../b.xyz", "test": "c.xyz"}
    assert (
        shipped_command("mlff train /a/b.yaml -o /c/d --set x=/e/f g=h/i") == "mlff train b.yaml -o d --set x=f g=h/i"
    )
    assert shipped_command("") == ""


def test_compiling_without_a_compiler_is_refused_before_anything_is_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(trainer__compile=True, data__train="gone.extxyz")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RecipeError, match=r"recipe.yaml: trainer.compile is true, but .*no-such-compiler"):
        train(path)
    assert not (path.parent / "run").exists()
    assert load_recipe(path).trainer.compile  # a recipe may be read where it cannot run


@pytest.mark.parametrize("again", [{}, {"overwrite": True}], ids=["start", "overwrite"])
def test_a_run_that_came_in_between_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch, again: dict) -> None:
    path = project(optimizer__max_epochs=1)
    run = path.parent / "run"
    if again:
        train(path)
    reads = []
    kept = potential_task.read_frames

    def read_late(recipe: object) -> object:
        reads.append(recipe)
        if len(reads) == 1:  # a second run starts and ends while the first loads its data
            train(path, **again)
        return kept(recipe)

    monkeypatch.setattr(potential_task, "read_frames", read_late)
    with pytest.raises(TrainingError, match="another run has written there"):
        train(path, **again)
    assert len(reads) == 2
    assert json.loads((run / "run.json").read_text())["finished"]
    assert load_potential(str(run / "potential")) is not None


def test_a_folder_in_which_another_process_runs_is_refused(project: Project) -> None:
    path = project(optimizer__max_epochs=1)
    train(path)
    before = (path.parent / "run/run.json").read_bytes()
    with folder_lock(path.parent / "run"), pytest.raises(TrainingError, match="another process is running"):
        train(path, overwrite=True)
    assert (path.parent / "run/run.json").read_bytes() == before


def _after_two_epochs(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call a function once, in the third epoch."""
    kept = MetricsFile._write

    def write(self: MetricsFile) -> None:
        kept(self)
        if len(self.rows) == 2:
            monkeypatch.setattr(MetricsFile, "_write", kept)
            monkeypatch.setattr(AveragedWeights, "on_train_batch_end", meddle(AveragedWeights.on_train_batch_end))

    def meddle(method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **options: object) -> None:
            monkeypatch.setattr(AveragedWeights, "on_train_batch_end", method)
            act()
            method(*arguments, **options)

        return call

    monkeypatch.setattr(MetricsFile, "_write", write)


def test_a_moved_folder_is_noticed_and_can_be_resumed_there(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project()
    run, moved = path.parent / "run", path.parent / "moved"
    _after_two_epochs(monkeypatch, lambda: run.rename(moved))
    with pytest.raises(TrainingError, match=rf"was moved during the run.*mlff train {moved}/recipe.yaml --resume --output"):
        train(path)
    assert not run.exists()
    whole = train(path, output=path.parent / "whole")
    again = train(moved / "recipe.yaml", output=moved, resume=True)
    assert again.report.errors == whole.report.errors


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_folder_is_noticed_and_its_replacement_is_unchanged(
    project: Project, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    path = project()
    run = path.parent / "run"

    def meddle() -> None:
        shutil.rmtree(run)
        if replaced:
            (run / "checkpoints").mkdir(parents=True)
            (run / "run.json").write_text("of another run")

    _after_two_epochs(monkeypatch, meddle)
    with pytest.raises(TrainingError, match="was deleted or replaced during the run"):
        train(path)
    left = [file for file in run.rglob("*") if file.is_file()]
    assert [file.read_text() for file in left] == (["of another run"] if replaced else [])
