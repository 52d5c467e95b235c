"""Reading damaged files gives a correct result or one error of this package; it never hangs, swells or runs code.

The number in the text of a failure reproduces its input: `worker.attempt(folder, kind, number)`.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("weights", "headers", "checkpoints", "states", "recipes", "structures", "arrays", "exported")
OURS = ("weights", "headers", "states", "recipes", "arrays", "exported")
"""Kinds parsed by this package from the first byte, which must never even request more than 4 GiB."""


@pytest.fixture(scope="module")
def beside() -> Iterator[None]:
    """Modules of this folder, which worker processes import as well."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


def report(answers: list[dict[str, Any]]) -> str:
    """Return counts by kind and outcome, and the inputs with a wrong outcome."""
    from pool import is_wrong

    counts = Counter((answer["kind"], answer["end"]) for answer in answers)
    lines = [f"{kind:<12} {end:<10} {count:>5}" for (kind, end), count in sorted(counts.items())]
    slowest = max(answers, key=lambda answer: answer.get("seconds", 0.0))
    lines.append(f"slowest: {slowest['kind']} {slowest['number']}, {slowest.get('seconds')} s")
    lines.append(f"most memory: {max(answer.get('more', 0) for answer in answers) / 2**20:.0f} MiB")
    for answer in filter(is_wrong, answers):
        lines.append(f"{answer['kind']} {answer['number']}: {answer['end']} {answer.get('executed', '')}")
        lines.append(answer.get("trace", answer.get("said", ""))[-1500:])
    return "\n".join(lines)


def test_some_inputs_of_every_kind(
    beside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few inputs are read in this process without limits, which takes seconds."""
    import samples
    from pool import is_wrong
    from worker import attempt

    from mlff_calc.training import plots

    monkeypatch.setenv("MLFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plots, "save", lambda figure, target: target.write_bytes(b""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples.make_all(tmp_path / "sound", quick=True)
    (tmp_path / "sound" / "executed").unlink(missing_ok=True)
    answers = [attempt(tmp_path / "sound", kind, 1000 + number) for kind in KINDS for number in range(5)]
    assert len(answers) == 40
    assert not any(map(is_wrong, answers)), report(answers)
    assert {answer["end"] for answer in answers} == {"read", "refused"}


@pytest.mark.slow
def test_a_thousand_inputs(beside: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inputs are read in worker processes that may take 4 GiB more than at their start, and 20 seconds per input."""
    from pool import Reader, is_wrong, make_samples

    make_samples(tmp_path / "sound")
    reader = Reader(tmp_path / "sound")
    try:
        answers = [reader.read(kind, number) for kind in KINDS for number in range(125)]
    finally:
        reader.close()
    with capsys.disabled():
        print("\n" + report(answers))
    assert len(answers) == 1000
    assert not any(map(is_wrong, answers)), report(answers)
    asked = [answer for answer in answers if answer.get("asked_too_much") and answer["kind"] in OURS]
    assert not asked, asked
