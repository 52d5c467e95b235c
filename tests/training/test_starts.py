"""Starts of fixed points: the kept solutions by frame, and their storage in checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mlff_calc.training.potential.starts import KEPT, Starts

SIZES = {0: 2, 1: 3, 7: 1}
"""Numbers of atoms by frame."""


def outputs_of(frames: list[int], names: tuple[str, ...] = tuple(KEPT)) -> dict[str, Tensor]:
    """Return numbers that depend on frame, atom and name."""
    rows = [100.0 * frame + atom for frame in frames for atom in range(SIZES[frame])]
    batch = torch.tensor(rows).view(-1, 1, 1).expand(-1, 4, 2)
    return {name: (batch + 0.1 * i).requires_grad_() for i, name in enumerate(names)}


def n_atoms(frames: list[int]) -> Tensor:
    return torch.tensor([SIZES[frame] for frame in frames])


def graph_of(frames: list[int]) -> dict[str, Tensor]:
    return {"edge_vec": torch.zeros(5, 3), "atomic_numbers": torch.ones(int(n_atoms(frames).sum()))}


def assert_given(starts: Starts, part: str, frames: list[int], names: tuple[str, ...] = tuple(KEPT)) -> None:
    graph = starts.give(part, frames, graph_of(frames))
    assert graph.keys() == {"edge_vec", "atomic_numbers", *(KEPT[name] for name in names)}
    for name, expected in outputs_of(frames, names).items():
        torch.testing.assert_close(graph[KEPT[name]], expected.detach(), rtol=0.0, atol=0.0)
        assert not graph[KEPT[name]].requires_grad


def test_frames_get_their_own_rows_in_any_order_and_company() -> None:
    starts = Starts()
    for frames in ([7, 0], [1]):
        starts.keep("train", frames, n_atoms(frames), outputs_of(frames))
    for frames in ([0, 1, 7], [1, 7], [0]):
        assert_given(starts, "train", frames)


def test_a_batch_with_an_unknown_frame_is_not_changed() -> None:
    starts = Starts()
    starts.keep("train", [0, 1], n_atoms([0, 1]), outputs_of([0, 1]))
    for part, frames in (("train", [0, 7]), ("valid", [0, 1]), ("train", [])):
        graph = graph_of(frames)
        assert starts.give(part, frames, graph) is graph


def test_parts_do_not_mix() -> None:
    starts = Starts()
    starts.keep("train", [0], n_atoms([0]), outputs_of([0]))
    starts.keep("valid", [0], n_atoms([0]), {name: 2.0 * value for name, value in outputs_of([0]).items()})
    assert_given(starts, "train", [0])
    graph = starts.give("valid", [0], graph_of([0]))
    torch.testing.assert_close(graph["start_state"], 2.0 * outputs_of([0])["state"].detach())


def test_the_last_solution_counts_and_one_that_is_not_finite_is_forgotten() -> None:
    starts = Starts()
    starts.keep("train", [0, 1], n_atoms([0, 1]), {name: 0.0 * value for name, value in outputs_of([0, 1]).items()})
    starts.keep("train", [0, 1], n_atoms([0, 1]), outputs_of([0, 1]))
    assert_given(starts, "train", [0, 1])
    broken = {name: value.detach().clone() for name, value in outputs_of([0, 1]).items()}
    broken["adjoint"][SIZES[0], 2, 1] = float("nan")  # the first atom of frame 1
    starts.keep("train", [0, 1], n_atoms([0, 1]), broken)
    assert_given(starts, "train", [0])
    assert "start_state" not in starts.give("train", [1], graph_of([1]))


def test_starts_missing_for_one_frame_are_left_out() -> None:
    """With direct forces there is no adjoint to keep."""
    starts = Starts()
    starts.keep("train", [0], n_atoms([0]), outputs_of([0], ("state", "adjoint")))
    starts.keep("train", [1], n_atoms([1]), outputs_of([1], ("state",)))
    assert_given(starts, "train", [0, 1], ("state",))


def test_a_frame_without_a_probe_gets_a_random_one() -> None:
    """The spectral radius is measured in some steps only; the probe of a frame is kept until the next of them."""
    starts = Starts()
    starts.keep("train", [0], n_atoms([0]), outputs_of([0]))
    starts.keep("train", [0, 1], n_atoms([0, 1]), outputs_of([0, 1], ("state", "adjoint")))
    probe = starts.give("train", [0, 1], graph_of([0, 1]))["probe"]
    torch.testing.assert_close(probe[: SIZES[0]], outputs_of([0])["probe"].detach(), rtol=0.0, atol=0.0)
    assert float(probe[SIZES[0] :].std()) > 0.1


def test_through_a_checkpoint(tmp_path: Path) -> None:
    starts, restored = Starts(), Starts()
    starts.keep("train", [0, 7], n_atoms([0, 7]), outputs_of([0, 7]))
    starts.keep("valid", [1], n_atoms([1]), outputs_of([1], ("state", "adjoint")))
    torch.save({"starts": starts.state_dict()}, tmp_path / "last.ckpt")
    restored.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["starts"])
    assert_given(restored, "train", [7, 0])
    assert_given(restored, "valid", [1], ("state", "adjoint"))


def test_no_more_is_kept_than_fits() -> None:
    """The first frames keep their rows, new frames use rows that become free, and a resumed run continues the count."""
    row = 4 * 2 * 4 * len(KEPT)  # bytes per atom
    starts = Starts(most_bytes=3 * row)
    starts.keep("train", [0, 1, 7], n_atoms([0, 1, 7]), outputs_of([0, 1, 7]))
    assert_given(starts, "train", [7, 0])
    assert starts.give("train", [0, 1], graph_of([0, 1])).keys() == graph_of([0, 1]).keys()
    resumed = Starts(most_bytes=3 * row)
    resumed.load_state_dict(starts.state_dict())
    resumed.keep("valid", [7], n_atoms([7]), outputs_of([7]))
    assert resumed.give("valid", [7], graph_of([7])).keys() == graph_of([7]).keys()
    resumed.keep("train", [0], n_atoms([0]), {name: torch.full((2, 4, 2), torch.nan) for name in KEPT})
    resumed.keep("valid", [7], n_atoms([7]), outputs_of([7]))
    assert_given(resumed, "valid", [7])
