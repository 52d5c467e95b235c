"""`mlff compile`: errors of the command line; compilation itself is tested in tests/export."""

from __future__ import annotations

import pytest
import torch

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["--device", "tpu"], 1, "mlff: error: unknown device 'tpu'; choose auto, cpu, cuda or cuda:N"),
        (["--device", "meta"], 1, "device 'meta' is not supported"),
        (["--device", "cuda:99"], 1, "device 'cuda:99' was requested, but PyTorch"),
        (["--threads", "0"], 2, "--threads"),
        (["--precision", "float16"], 2, "--precision"),
    ],
)
def test_bad_input_is_one_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    expected: str,
) -> None:
    def load(name: str) -> torch.nn.Module:
        pytest.fail(f"{name} was loaded")

    monkeypatch.setattr("mlff_calc.potential.load_potential", load)
    assert run_cli(build_app(), ["compile", "ethanol", *arguments]) == status
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.count("mlff: error:") == 1
    assert "not foreseen" not in said.err
