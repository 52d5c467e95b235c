"""Keys and levels of graphs that backbones read and add."""

from __future__ import annotations

from typing import Final

from mlff_calc.graph.keys import ATOMIC_NUMBERS, DOUBLE, INT, declare, register_level

SPECIES: Final = declare("species", "atom", (), INT, "", "number of the element or kind among those a network knows")
NODE_FEATURES: Final = declare(
    "node_features", "atom", (None, None), None, "", "features [n_atoms, (degree+1)^2, channels], e3nn order"
)
INPUT_FEATURES: Final = declare(
    "input_features", "atom", (4, None), None, "", "known scalars and vectors of atoms, besides the species"
)
EDGE_INPUTS: Final = declare(
    "edge_inputs", "edge", (None,), None, "", "known features of edges, added to their radial basis"
)
NODE_SCALARS: Final = declare("node_scalars", "atom", (None,), DOUBLE, "", "scalars of atoms, such as charges")
EDGE_SCALARS: Final = declare("edge_scalars", "edge", (None,), DOUBLE, "", "scalars of edges, such as hops")
MOVED: Final = declare("moved", "atom", (3,), None, "length", "displacement of atoms by the backbone")
DROPOUT: Final = declare(
    "dropout", "atom", (None,), None, "", "factors of messages, the same in every evaluation of a solve"
)

# Keys of an engine that spreads atoms over processes: its own atoms, then its ghosts; see nn/exchange.py.
NODE_NUMBERS: Final = declare("node_numbers", "node", (), INT, "", "atomic numbers of own atoms, then of ghosts")
NODE_SPECIES: Final = declare("node_species", "node", (), INT, "", "species of own atoms, then of ghosts")
OWNED: Final = declare("owned", "atom", (), DOUBLE, "", "1 where the energy of an atom counts, 0 elsewhere")
register_level("node", NODE_NUMBERS, ATOMIC_NUMBERS)
