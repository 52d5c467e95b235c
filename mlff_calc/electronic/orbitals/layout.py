"""Where the blocks of atoms and pairs of atoms stand in the matrices of a batch of molecules.

| name | shape | what it is |
|---|---|---|
| `flat` | [..., sum n_orbitals^2] | matrices of all systems, one after the other, each row by row |
| `diagonal` | [..., n_atoms, width, width] | blocks of an atom with itself, in padded orbitals |
| `pairs` | [..., n_pairs, width, width] | blocks of atom i (rows) and j (columns) |

Entries of orbitals that an element does not have are zero in blocks, and blocks of pairs that are not listed are zero in
matrices. All places are computed once, by array operations over all atoms and pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlff_calc.electronic.orbitals.pairs import BlockPairs
from mlff_calc.electronic.orbitals.rearrange import rearrange
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import OrbitalError, StructureError


class MatrixLayout:
    """Places of blocks in the matrices of a batch of molecules.

    Args:
        basis: Basis of the orbitals.
        atomic_numbers: Atomic numbers [n_atoms].
        system_index: System of each atom [n_atoms], system after system; None for one molecule.
        pairs: Pairs whose blocks are kept; all pairs of a system by default.
        device: Device of the places.

    Attributes:
        numbers: Atomic numbers [n_atoms], on the CPU.
        kinds: Place of each atom's element in `basis.elements` [n_atoms].
        pairs: The pairs.
        n_atoms, n_systems, n_pairs: Numbers of atoms, systems and pairs.
        n_orbitals: Number of orbitals of each system.
        n_flat: Length of `flat`.

    Raises:
        UnknownElementError: The basis lacks an element.
        StructureError: Systems are not sorted, or a pair lies in two systems.
    """

    def __init__(
        self,
        basis: OrbitalBasis,
        atomic_numbers: ArrayLike | Tensor,
        system_index: ArrayLike | Tensor | None = None,
        pairs: BlockPairs | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        numbers = np.asarray(torch.as_tensor(atomic_numbers).cpu(), dtype=np.int64).reshape(-1)
        if system_index is None:
            systems = np.zeros_like(numbers)
        else:
            systems = np.asarray(torch.as_tensor(system_index).cpu(), dtype=np.int64).reshape(-1)
        if len(systems) != len(numbers) or (np.diff(systems) < 0).any() or (systems < 0).any():
            raise StructureError(
                f"systems of {len(systems)} atoms do not fit {len(numbers)} atomic numbers, or are not sorted; "
                "give the atoms of each molecule together, the first molecule first"
            )
        self.basis, self.numbers = basis, numbers
        kinds = basis.kinds(numbers)
        self.n_atoms = len(numbers)
        self.n_systems = int(systems.max(initial=-1)) + 1
        self.device = torch.device(device)
        own = BlockPairs.all(systems) if pairs is None else pairs
        first, second = own.edge_index.cpu().numpy()
        if len(first) and (max(first.max(), second.max()) >= self.n_atoms or (systems[first] != systems[second]).any()):
            raise StructureError(f"pairs do not fit the {self.n_atoms} atoms of the layout, or join atoms of two systems")
        self.pairs = own.to(self.device)
        self.n_pairs = len(own)

        counts = basis.orbitals_by_atom(numbers)
        sizes = np.bincount(systems, weights=counts, minlength=self.n_systems).astype(np.int64)
        self.n_orbitals: list[int] = sizes.tolist()
        self.n_flat = int((sizes**2).sum())
        matrix_starts = np.cumsum(sizes**2) - sizes**2
        atom_starts = np.cumsum(counts) - counts - (np.cumsum(sizes) - sizes)[systems]
        ranks = basis.ranks[kinds]
        rows = np.where(ranks >= 0, atom_starts[:, None] + ranks, -1)  # [n_atoms, width]
        rows_of = np.concatenate([np.arange(self.n_atoms), first]), np.concatenate([np.arange(self.n_atoms), second])
        index = _places(rows, rows_of, matrix_starts[systems], sizes[systems], self.n_flat).reshape(-1)
        back = np.full(self.n_flat + 1, len(index), dtype=np.int64)
        back[index] = np.arange(len(index))
        back[-1:] = len(index)
        self._index = torch.from_numpy(index).to(self.device)
        self._back = torch.from_numpy(back[:-1]).to(self.device)
        self.kinds = torch.from_numpy(kinds).to(self.device)
        self._systems, self._sizes = systems, sizes

    def gather(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks of matrices.

        Args:
            flat: Matrices of all systems [..., n_flat].

        Returns:
            Diagonal blocks [..., n_atoms, width, width] and blocks of pairs [..., n_pairs, width, width].

        Raises:
            OrbitalError: The length is not that of the layout.
        """
        if flat.shape[-1] != self.n_flat:
            raise OrbitalError(f"matrices have {flat.shape[-1]} entries; the layout has {self.n_flat} in {self.n_systems}")
        lead, width = flat.shape[:-1], self.basis.width
        blocks = rearrange(flat, self._index, self._back, dim=-1, gaps=True, partial=True)
        blocks = blocks.reshape(*lead, self.n_atoms + self.n_pairs, width, width)
        return blocks[..., : self.n_atoms, :, :], blocks[..., self.n_atoms :, :, :]

    def scatter(self, diagonal: Tensor, pairs: Tensor) -> Tensor:
        """Matrices [..., n_flat] from blocks as `gather` returns them; entries of padded orbitals are ignored.

        Raises:
            OrbitalError: The shapes are not those of the layout.
        """
        width = self.basis.width
        for blocks, n, what in ((diagonal, self.n_atoms, "atoms"), (pairs, self.n_pairs, "pairs")):
            if blocks.shape[-3:] != (n, width, width):
                raise OrbitalError(
                    f"blocks of {what} have shape {tuple(blocks.shape)}; the layout has {n} of width {width}"
                )
        blocks = torch.cat([diagonal, pairs], dim=-3)
        return rearrange(blocks.flatten(-3), self._back, self._index, dim=-1, gaps=True, partial=True)

    def dense(self, flat: Tensor) -> list[Tensor]:
        """The matrices [..., n, n] of all systems, as views of `flat` [..., n_flat]."""
        parts = flat.split([n * n for n in self.n_orbitals], dim=-1)
        return [part.unflatten(-1, (n, n)) for part, n in zip(parts, self.n_orbitals, strict=True)]

    def flatten(self, matrices: Sequence[Tensor | NDArray[np.floating]]) -> Tensor:
        """One vector [..., n_flat] of the matrices [..., n, n] of all systems; the inverse of `dense`.

        Raises:
            OrbitalError: Number or sizes of the matrices are not those of the layout.
        """
        tensors = [torch.as_tensor(matrix).to(self.device) for matrix in matrices]
        sizes = [tuple(tensor.shape[-2:]) for tensor in tensors]
        if sizes != [(n, n) for n in self.n_orbitals]:
            raise OrbitalError(f"matrices of sizes {sizes} do not fit systems of {self.n_orbitals} orbitals in this basis")
        return torch.cat([tensor.flatten(-2) for tensor in tensors], dim=-1)

    @cached_property
    def diagonal_mask(self) -> Tensor:
        """Which entries of diagonal blocks are orbitals of the element [n_atoms, width, width], bool."""
        return self._mask[: self.n_atoms]

    @cached_property
    def pair_mask(self) -> Tensor:
        """Which entries of blocks of pairs are orbitals of both elements [n_pairs, width, width], bool."""
        return self._mask[self.n_atoms :]

    @cached_property
    def on_diagonal(self) -> Tensor:
        """Which entries of `flat` lie in diagonal blocks [n_flat], bool."""
        return self._back < self.n_atoms * self.basis.width**2

    @cached_property
    def listed(self) -> Tensor:
        """Which entries of `flat` lie in a block that is kept [n_flat], bool."""
        return self._back < len(self._index)

    @cached_property
    def flat_systems(self) -> Tensor:
        """System of each entry of `flat` [n_flat]."""
        return torch.from_numpy(np.repeat(np.arange(self.n_systems), self._sizes**2)).to(self.device)

    @cached_property
    def system_index(self) -> Tensor:
        """System of each atom [n_atoms]."""
        return torch.from_numpy(self._systems).to(self.device)

    @property
    def _mask(self) -> Tensor:
        return (self._index < self.n_flat).view(-1, self.basis.width, self.basis.width)


def _places(
    rows: NDArray[np.int64],
    atoms: tuple[NDArray[np.int64], NDArray[np.int64]],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    absent: int,
) -> NDArray[np.int64]:
    """Places in `flat` of the entries of blocks [n_blocks, width, width].

    Args:
        rows: Row of each padded orbital in the matrix of its system [n_atoms, width]; -1 where there is none.
        atoms: Atoms of the rows and of the columns of each block.
        starts: Place of the first entry of each atom's matrix [n_atoms].
        sizes: Number of rows of each atom's matrix [n_atoms].
        absent: Place given to entries without orbitals.
    """
    left, right = rows[atoms[0]][:, :, None], rows[atoms[1]][:, None, :]
    start, size = starts[atoms[0]][:, None, None], sizes[atoms[0]][:, None, None]
    return np.where((left >= 0) & (right >= 0), start + left * size + right, absent)
