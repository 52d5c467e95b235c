"""Messages before compilation name the object and the time of the last compilation of this architecture."""

from __future__ import annotations

import io
import logging

import pytest
import torch

from mlff_calc.cli.console import _WithSpinner
from mlff_calc.export.announce import announced, times_dir
from mlff_calc.potential import build_potential

CPU = torch.device("cpu")


def potential_of(seed, **options):
    backbone = {"name": "hegnn", "channels": 4, "n_layers": 1, "cutoff": 4.0, "l_max": 1, **options}
    return build_potential({"backbone": backbone, "elements": ["H"], "scale": 1.0 + seed}, seed=seed)


@pytest.fixture
def said(tmp_path, monkeypatch, caplog):
    """Function that returns the messages of compiling a potential, with a new folder as the cache."""
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))

    def compiling(potential, what="a step"):
        caplog.clear()
        with caplog.at_level(logging.INFO, "mlff_calc"), announced(potential, CPU, what):
            pass
        assert [record.compiling for record in caplog.records] == [True, False]
        return [record.getMessage() for record in caplog.records]

    return compiling


def test_the_time_of_the_last_time_is_that_of_the_architecture(said, monkeypatch):
    first, last = said(potential_of(0))
    assert first == "compiling a step of hegnn (the first time here, it may take minutes)"
    assert last == "compiled in 0 s"
    for file in times_dir().iterdir():
        file.write_text("97.4\n")
    known = "compiling a step of hegnn (last time it took 97 s here)"
    assert said(potential_of(1, avg_num_neighbors=30.0))[0] == known  # other weights and data
    for other, what in ((potential_of(0, channels=8), "a step"), (potential_of(0), "a training step")):
        assert "the first time here" in said(other, what)[0]


@pytest.mark.parametrize("content", [b"", b"soon", b"-3", b"\xff" * 9, b"inf"])
def test_a_damaged_time_is_ignored(said, content):
    said(potential_of(0))
    for file in times_dir().iterdir():
        file.write_bytes(content)
    assert "the first time here" in said(potential_of(0))[0]


def test_a_cache_that_cannot_be_written_gives_a_shorter_message(tmp_path, monkeypatch, said):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "file"))
    assert [said(potential_of(0))[0] for _ in range(2)][1].endswith("(the first time here, it may take minutes)")


def test_failed_compilations_record_no_time(said, caplog):
    with caplog.at_level(logging.INFO, "mlff_calc"), pytest.raises(RuntimeError), announced(potential_of(0), CPU, "a step"):
        raise RuntimeError
    assert caplog.records[-1].getMessage().startswith("compilation ended after")
    assert not times_dir().exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_spinner_on_a_terminal_and_lines_elsewhere(terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    handler = _WithSpinner(stream)
    for compiling in (True, False):
        record = logging.LogRecord("mlff_calc", logging.INFO, "", 0, f"begins {compiling}", None, None)
        record.compiling = compiling
        handler.emit(record)
        assert (handler._spinner is not None) == (terminal and compiling)
    assert stream.getvalue().startswith("begins True\n")
    assert stream.getvalue().endswith("begins False\n")
    assert ("\x1b" in stream.getvalue()) == terminal
