"""The scripts of md_runs/ run in this process, since a child would load all libraries again."""

from __future__ import annotations

import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "md_runs"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Function like `python md_runs/NAME --short WORDS...` that returns the output; warnings of the package are errors."""
    import matplotlib.pyplot as plt

    def run(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--short", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "100")
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", module="__main__")
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        return capsys.readouterr().out

    yield run
    plt.close("all")
