"""The entry point of `mlff`: fast start, lazy imports, and one readable message for every error."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import mlff_calc
from mlff_calc.cli import console
from mlff_calc.cli import main as cli_main
from mlff_calc.cli.console import describe, guard, run_cli
from mlff_calc.cli.main import COMMANDS, build_app
from mlff_calc.errors import OptionError

ARGUMENTS = [sys.executable, "-m", "mlff_calc.cli.main"]


def _app(raised: BaseException | None) -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        pass

    def act(size: int = 1) -> None:
        if raised is not None:
            raise raised

    app.command("act")(guard(act))
    return app


def test_help_lists_every_command() -> None:
    settings = os.environ | {"COLUMNS": "100"}
    done = subprocess.run([*ARGUMENTS, "--help"], capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command.name} " in done.stdout


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from mlff_calc.cli.main import build_app; build_app();"
        "print([name for name in ('torch', 'ase', 'lightning', 'matplotlib', 'e3nn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_is_fast_and_dir_lists_the_names() -> None:
    code = (
        "import sys, mlff_calc; names = dir(mlff_calc); from mlff_calc import errors;"
        "print([name for name in ('torch', 'ase', 'numpy', 'lightning') if name in sys.modules]);"
        "print(sorted(set(mlff_calc.__all__) - set(names)));"
        "print(all(getattr(mlff_calc, name) is getattr(errors, name) for name in mlff_calc.__all__ if 'Error' in name));"
        "print([name for name in vars(errors) if name.endswith('Error') and name not in mlff_calc.__all__])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:4] == ["[]", "[]", "True", "[]"]


def test_every_public_name_is_there() -> None:
    for name in mlff_calc.__all__:
        assert getattr(mlff_calc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'relaxx'"):
        mlff_calc.relaxx  # noqa: B018


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture) -> None:
    assert run_cli(build_app(), [name, "--help"]) == 0
    assert f"Usage: mlff {name}" in capsys.readouterr().out


def test_the_options_of_md_stand_in_groups(capsys: pytest.CaptureFixture) -> None:
    assert run_cli(build_app(), ["md", "--help"]) == 0
    said = capsys.readouterr().out
    places = [said.index(f" {panel} ") for panel in ("What runs", "Ensemble", "Output", "Model and device", "Safety")]
    assert places == sorted(places)
    assert places[0] < said.index("--structure") < places[1] < said.index("--friction") < places[2]
    assert places[4] < said.index("--domain")


def test_version(mlff: Callable) -> None:
    done = mlff("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("mlff_calc ")


def test_misspelt_command_names_the_nearest(mlff: Callable) -> None:
    done = mlff("potentails")
    assert done.returncode == 2
    assert "'potentails'" in done.stderr
    assert "'potentials'" in done.stderr
    assert "Traceback" not in done.stderr


def test_misspelt_option_names_the_nearest(mlff: Callable) -> None:
    done = mlff("potentials", "--jsn")
    assert done.returncode == 2
    assert "--json" in done.stderr
    assert "mlff potentials --help" in done.stderr


def test_unknown_potential_is_one_message(capsys: pytest.CaptureFixture) -> None:
    assert run_cli(build_app(), ["potentials", "no-such-potential"]) == 1
    shown = capsys.readouterr()
    assert "'no-such-potential'" in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (None, 0, []),
        (OptionError("no device 'cuda:7': this machine has none; use cpu"), 1, ["cuda:7", "use cpu"]),
        (OSError(errno.ENOSPC, "No space left on device", "run/log.csv"), 1, ["run/log.csv", "disk is full"]),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.xyz"), 1, ["a.xyz", "spelling"]),
        (MemoryError("9 GB"), 1, ["out of memory", "smaller"]),
        (ZeroDivisionError("division by zero"), 1, ["ZeroDivisionError", "--debug"]),
        (KeyboardInterrupt("Step 12 was saved; --resume goes on."), 130, ["interrupted", "--resume goes on"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (typer.Exit(3), 3, []),
        (SystemExit("stopped"), 1, ["stopped"]),
        (typer.BadParameter("must be positive"), 2, ["must be positive"]),
    ],
)
def test_exceptions_become_messages(
    raised: BaseException | None, status: int, words: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert run_cli(_app(raised), ["act"]) == status
    text = capsys.readouterr().err
    assert "Traceback" not in text
    for word in words:
        assert word in text
    assert bool(text) is bool(words)


def test_debug_shows_the_stack(capsys: pytest.CaptureFixture) -> None:
    assert run_cli(_app(OptionError("wrong")), ["act"], debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_wrong_value_of_an_option(capsys: pytest.CaptureFixture) -> None:
    assert run_cli(_app(None), ["act", "--size", "many"]) == 2
    text = capsys.readouterr().err
    assert "'many'" in text
    assert "--size" in text


@pytest.mark.parametrize(
    ("words", "variable", "shown"),
    [
        (["--debug", "act"], "0", True),
        (["act", "--debug"], "0", True),
        (["act"], "1", True),
        (["act"], "0", False),
    ],
)
def test_debug_may_stand_anywhere(
    words: list[str], variable: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("MLFF_DEBUG", variable)
    monkeypatch.setattr(cli_main, "configure_output", lambda debug: None)  # it would change the logging of this process
    monkeypatch.setattr(cli_main, "build_app", lambda: _app(OptionError("wrong")))
    with pytest.raises(SystemExit) as leaving:
        cli_main.main(words)
    assert leaving.value.code == 1
    assert ("Traceback" in capsys.readouterr().err) is shown


def test_closed_pipe_is_quiet() -> None:
    """`mlff ... | head` must not end in a stack trace."""
    code = (
        "import sys; from mlff_calc.cli.console import run_cli; import typer; app = typer.Typer()\n"
        "@app.command()\n"
        "def act():\n"
        "    for i in range(100000): typer.echo('x' * 100)\n"
        "sys.exit(run_cli(app, []))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    text = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "Traceback" not in text


def test_control_c_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys, time, typer; from mlff_calc.cli.console import guard, run_cli; app = typer.Typer()\n"
        "def act():\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "app.command()(guard(act)); sys.exit(run_cli(app, []))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    assert process.returncode == console.EXIT_INTERRUPTED
    assert text == "mlff: interrupted.\n"


def test_our_messages_are_shown_unchanged() -> None:
    assert describe(OptionError("value, place and cure")) == "mlff: error: value, place and cure"
