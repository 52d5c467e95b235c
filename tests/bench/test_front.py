"""Accuracy against time of several shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlff_calc.bench import front
from mlff_calc.errors import OptionError
from mlff_calc.potential import build_potential


def test_shapes() -> None:
    shapes = front.parse_shapes("2x32x3, 0x8x1")
    assert [str(shape) for shape in shapes] == ["2x32x3", "0x8x1"]
    assert shapes[0].settings == {
        "potential.backbone.l_max": 2, "potential.backbone.channels": 32, "potential.backbone.n_layers": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"), [("2x32", "'2x32'"), ("2x32x3;1x8x1", "'2x32x3;1x8x1'"), (" ,", "no shapes")]
)
def test_bad_shapes(text: str, named: str) -> None:
    with pytest.raises(OptionError, match=named):
        front.parse_shapes(text)


def test_every_shape_is_trained_once_timed_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/rmd17").mkdir(parents=True)
    (tmp_path / "data/rmd17/ethanol.npz").touch()
    trained = []

    def train(
        minutes: float, source: Path, folder: Path, *, threads: int, settings: dict[str, object], recipe: str
    ) -> None:
        trained.append((minutes, threads, folder.name))
        assert recipe == "ethanol"
        assert settings["trainer.seed"] == 1
        sizes = {key.rpartition(".")[2]: value for key, value in settings.items() if "backbone" in key}
        config = {"backbone": {"name": "equiformer", "cutoff": 4.0, **sizes}, "elements": ["H", "C", "O"]}
        build_potential(config, seed=0).save(folder / "potential")
        errors = {"forces": {"mae": 10.0 / sizes["channels"]}, "energy": {"mae": 1.0}}
        (folder / "evaluation.json").write_text(json.dumps({"errors": errors}))

    monkeypatch.setattr(front, "train_ethanol", train)
    shapes = front.parse_shapes("1x4x1,1x8x1")
    for _ in range(2):
        rows = front.measure_front(shapes, 3.0, data=tmp_path / "data", workdir=tmp_path, compiled=False)
    assert trained == [(3.0, 1, "1x4x1-3min-1t"), (3.0, 1, "1x8x1-3min-1t")]
    assert [row["force_mae"] for row in rows] == [2.5, 1.25]
    assert rows[1]["parameters"] > rows[0]["parameters"]
    assert all(0.1 < row["min_ms"] <= row["total_ms"] for row in rows)
    front.draw_front(rows, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000
