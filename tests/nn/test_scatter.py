"""Sums over rows, compared with a loop, and both methods compared with each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mlff_calc.nn.scatter import scatter_sum


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Switch PyTorch's deterministic algorithms on."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _case(n: int, n_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    values = torch.randn(n, 3, 2, generator=generator, dtype=torch.float64)
    index = torch.randint(0, max(n_rows - 1, 1), (n,), generator=generator)  # the last row gets no contribution
    return values, index


@pytest.mark.parametrize(("n", "n_rows"), [(50, 7), (5, 20), (0, 4), (0, 0)])
def test_sum_is_that_of_a_loop(n: int, n_rows: int) -> None:
    values, index = _case(n, n_rows)
    expected = torch.zeros(n_rows, 3, 2, dtype=torch.float64)
    for value, row in zip(values, index, strict=True):
        expected[row] += value
    torch.testing.assert_close(scatter_sum(values, index, n_rows), expected)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("n", "n_rows"), [(50, 7), (5, 20), (0, 4), (0, 0)])
def test_csr_reduction_is_the_same_sum(n: int, n_rows: int) -> None:
    pytest.importorskip("torch_scatter", reason="torch-scatter is not installed")
    values, index = _case(n, n_rows)
    expected = torch.zeros(n_rows, 3, 2, dtype=torch.float64).index_add(0, index, values)
    torch.testing.assert_close(scatter_sum(values, index, n_rows), expected)
    if n:
        values.requires_grad_()
        torch.autograd.gradcheck(lambda x: scatter_sum(x, index, n_rows), values)
        torch.autograd.gradgradcheck(lambda x: scatter_sum(x, index, n_rows), values)


@pytest.mark.usefixtures("deterministic")
def test_csr_reduction_is_what_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    scatter = pytest.importorskip("torch_scatter", reason="torch-scatter is not installed")
    calls: list[str] = []
    reduction = scatter.segment_csr
    monkeypatch.setattr(
        scatter, "segment_csr", lambda *args, **options: calls.append("csr") or reduction(*args, **options)
    )
    scatter_sum(*_case(50, 7), 7)
    assert calls == ["csr"]
    torch.use_deterministic_algorithms(False)
    scatter_sum(*_case(50, 7), 7)
    assert calls == ["csr"]
