"""Cl(3,0): identities of the algebra, equivariant layers, and a network that learns more than vectors alone allow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from mlff_calc.nn.clifford import (
    CEMLP,
    GRADES,
    GeometricProduct,
    GeometricProductLayer,
    GradeNorm,
    MVLayerNorm,
    MVLinear,
    MVSiLU,
    VectorProduct,
    geometric_product,
    grade_paths,
)

LAYERS = {
    "linear": lambda: MVLinear(5, 5),
    "gate": lambda: MVSiLU(5),
    "grade norm": lambda: GradeNorm(5),
    "layer norm": lambda: MVLayerNorm(5),
    "product": lambda: GeometricProductLayer(5),
    "plain product": lambda: GeometricProductLayer(5, normalize=False),
    "perceptron": lambda: CEMLP(5, 7, 4),
}


def blade(k: int) -> Tensor:
    return torch.eye(8, dtype=torch.float64)[k]


def multivectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(8, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthogonal(seed: int, improper: bool) -> Tensor:
    matrix = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    return matrix @ torch.diag(torch.tensor([1.0, 1.0, -1.0]).double()) @ matrix if improper else matrix


def transform(matrix: Tensor, x: Tensor) -> Tensor:
    """Return rho(w): each grade separately, and bivectors by outer products of the transformed basis."""
    det = torch.linalg.det(matrix)
    pairs = [(2, 3), (3, 1), (1, 2)]
    planes = torch.stack([geometric_product(lifted(matrix[:, i - 1]), lifted(matrix[:, j - 1])) for i, j in pairs], 1)
    assert planes[[0, 1, 2, 3, 7]].abs().max() < 1e-12  # the product of orthogonal vectors is a pure bivector
    return torch.cat(
        [
            x[:1],
            torch.einsum("ij,j...->i...", matrix, x[1:4]),
            torch.einsum("ij,j...->i...", planes[4:7], x[4:7]),
            det * x[7:],
        ]
    )


def lifted(vector: Tensor) -> Tensor:
    return torch.cat([vector.new_zeros(1), vector, vector.new_zeros(4)])


def test_basis_vectors_square_to_one_and_anticommute() -> None:
    for i, j in itertools.product((1, 2, 3), repeat=2):
        both = geometric_product(blade(i), blade(j)) + geometric_product(blade(j), blade(i))
        torch.testing.assert_close(both, 2.0 * blade(0) * (i == j), rtol=0, atol=0)


def test_blades_are_products_of_vectors() -> None:
    for k, (i, j) in {4: (2, 3), 5: (3, 1), 6: (1, 2)}.items():
        torch.testing.assert_close(geometric_product(blade(i), blade(j)), blade(k), rtol=0, atol=0)
    torch.testing.assert_close(geometric_product(blade(1), blade(4)), blade(7), rtol=0, atol=0)
    torch.testing.assert_close(geometric_product(blade(7), blade(7)), -blade(0), rtol=0, atol=0)


def test_product_of_vectors_is_dot_and_wedge() -> None:
    u, v = torch.randn(2, 3, dtype=torch.float64)
    product = geometric_product(lifted(u), lifted(v))
    assert product[0].item() == pytest.approx(torch.dot(u, v).item(), abs=1e-14)
    torch.testing.assert_close(product[4:7], torch.linalg.cross(u, v), rtol=0, atol=1e-14)
    assert product[[1, 2, 3, 7]].abs().max() == 0.0


def test_product_is_associative_and_distributes() -> None:
    a, b, c = (multivectors(4, seed=seed) for seed in range(3))
    left = geometric_product(geometric_product(a, b), c)
    torch.testing.assert_close(left, geometric_product(a, geometric_product(b, c)), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        geometric_product(a, b + c), geometric_product(a, b) + geometric_product(a, c), rtol=0, atol=1e-13
    )


def test_twenty_paths() -> None:
    paths = grade_paths()
    assert len(paths) == len(set(paths)) == 20
    assert [sum(j == grade for _, j, _ in paths) for grade in range(4)] == [4, 6, 6, 4]
    for i, j, k in paths:
        assert abs(i - k) <= j <= i + k
        assert (i + j + k) % 2 == 0


def test_each_weight_is_one_path() -> None:
    """With a single nonzero weight, the layer gives the product of two grades, projected on a third."""
    product = GeometricProduct(3).double()
    grades = torch.tensor(GRADES)
    left, right = multivectors(6, 3), multivectors(6, 3, seed=1)
    for number, (i, j, k) in enumerate(grade_paths()):
        product.weight.data.zero_()
        product.weight.data[number] = torch.tensor([1.0, -2.0, 0.5]).double()
        parts = [values * (grades == grade).view(8, 1, 1) for values, grade in ((left, i), (right, k))]
        whole = geometric_product(parts[0], parts[1]) * (grades == j).view(8, 1, 1)
        assert whole.abs().max() > 0.1
        torch.testing.assert_close(product(left, right), whole * product.weight[number], rtol=0, atol=1e-13)


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_transformations_are_automorphisms(improper: bool) -> None:
    matrix = orthogonal(3, improper)
    assert torch.linalg.det(matrix).item() == pytest.approx(-1.0 if improper else 1.0)
    a, b = multivectors(50), multivectors(50, seed=1)
    together = transform(matrix, geometric_product(a, b))
    torch.testing.assert_close(
        together, geometric_product(transform(matrix, a), transform(matrix, b)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_equivariant(name: str, improper: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = LAYERS[name]().double()
        for parameter in layer.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    x, matrix = multivectors(9, 5), orthogonal(4, improper)
    after = layer(transform(matrix, x))
    torch.testing.assert_close(after, transform(matrix, layer(x)), rtol=0, atol=1e-10)
    assert (after - layer(x)).abs().max() > 0.1
    for grade in range(4):
        assert after[torch.tensor(GRADES) == grade].abs().max() > 1e-3


def test_product_with_a_vector() -> None:
    vectors, x = torch.randn(6, 3, dtype=torch.float64), multivectors(6, 4)
    turn = VectorProduct()(vectors)
    bond = torch.stack([lifted(vector) for vector in vectors], dim=1).unsqueeze(2).expand(8, 6, 4)
    found = torch.bmm(turn, x.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(found, geometric_product(x, bond), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_smooth_at_zero(name: str) -> None:
    """A norm with a kink would give a second difference of the order of the step."""
    layer, step = LAYERS[name]().double(), 1e-6
    x = multivectors(9, 5)
    with torch.no_grad():
        second = layer(step * x) - 2.0 * layer(torch.zeros_like(x)) + layer(-step * x)
    assert second.abs().max() < 0.1 * step
    zero = torch.zeros_like(x).requires_grad_()
    assert torch.isfinite(torch.autograd.grad(layer(zero).sum(), zero)[0]).all()


class VolumeNet(nn.Module):
    """Network with two geometric products of the vertices relative to their mean, which reads the pseudoscalar."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MVLinear(4, hidden),
            GeometricProductLayer(hidden, normalize=False),
            GeometricProductLayer(hidden, normalize=False),
            MVLinear(hidden, 1),
        )

    def forward(self, corners: Tensor) -> Tensor:
        vectors = (corners - corners.mean(dim=1, keepdim=True)).permute(2, 0, 1)
        return self.layers(nn.functional.pad(vectors, [0, 0, 0, 0, 1, 4]))[7, :, 0]


class InnerProductNet(nn.Module):
    """Perceptron on all inner products of the vertices relative to their mean."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.last = nn.Linear(hidden, 1)

    def forward(self, corners: Tensor) -> Tensor:
        vectors = corners - corners.mean(dim=1, keepdim=True)
        return self.last(self.layers((vectors @ vectors.mT).flatten(1)))[:, 0]


def tetrahedra(n: int, seed: int) -> tuple[Tensor, Tensor]:
    corners = np.random.default_rng(seed).normal(size=(n, 4, 3))
    volumes = np.linalg.det(corners[:, 1:] - corners[:, :1]) / 6.0
    return torch.from_numpy(corners).float(), torch.from_numpy(volumes).float()


def error_after_training(net: nn.Module, steps: int, rate: float) -> float:
    corners, volumes = tetrahedra(2048, 0)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(corners), (128,), generator=generator)
        optimizer.zero_grad()
        (net(corners[rows]) - volumes[rows]).square().mean().backward()
        optimizer.step()
        schedule.step()
    unseen, truth = tetrahedra(2000, 1)
    with torch.no_grad():
        return (net(unseen) - truth).square().mean().item()


def test_signed_volume_needs_the_pseudoscalar() -> None:
    """A tetrahedron and its mirror image have the same inner products and opposite volumes."""
    variance = tetrahedra(2000, 1)[1].square().mean().item()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clifford, vectors = VolumeNet(8), InnerProductNet(64)
    assert variance > 0.3
    assert error_after_training(clifford, 600, 1e-2) <= 1e-3
    assert error_after_training(vectors, 300, 1e-3) > 0.9 * variance
