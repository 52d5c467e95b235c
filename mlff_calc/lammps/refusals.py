"""What an input may ask of LAMMPS that `fix external` cannot do right: refused before LAMMPS gets the command.

LAMMPS itself says nothing about any of these; energies or forces would be those of another system.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from mlff_calc.errors import OptionError
from mlff_calc.lammps.peratom import PROPERTY_OF

STYLE = "mlff"
TRIALS = frozenset(
    {"gcmc", "widom", "atom/swap", "mol/swap", "neighbor/swap", "bond/swap", "sgcmc", "charge/regulation", "hmc"}
)
"""Fixes that accept or refuse moves by energies they ask for themselves."""
PAIRWISE = frozenset({
    "pair", "pair/local", "group/group", "heat/flux", "heat/flux/tally", "heat/flux/virial/tally", "force/tally",
    "pe/tally", "pe/mol/tally", "stress/tally", "stress/mop", "stress/mop/profile", "stress/cartesian",
    "stress/cylinder", "stress/spherical", "centroid/stress/atom", "fep", "fep/ta", "ti", "born/matrix",
})  # fmt: skip
"""Computes that ask the pair style, which knows nothing of the calculator's energy."""
REPLICAS = frozenset({"neb", "neb/spin", "temper", "temper/npt", "temper/grem", "prd", "tad", "hyper"})
_OTHER_TERMS = frozenset({"ke", "bond", "angle", "dihedral", "improper"})
_WATCHED = frozenset(
    {"pair_style", "pair_coeff", "fix", "fix_modify", "unfix", "compute", "neigh_modify", "run_style", "plugin"}
    | {"uncompute", "run", "if", "include", "jump", "clear", "read_restart", "read_data", "suffix"} | REPLICAS
)  # fmt: skip
_PAIR_STYLE = "it works with the compiled pair style (`mlff lammps build`, then `lmp`)"


def watched(name: str) -> bool:
    """Whether a command of this name is looked at, so that its variables have to be put in first."""
    return name in _WATCHED


def refuse_command(words: Sequence[str], fix: str, missing: Collection[str] = ()) -> None:
    """Look at one command.

    Args:
        words: of the command, variables and quotes gone.
        fix: ID of the fix external.
        missing: computes of atoms that the calculator has nothing for.

    Raises:
        OptionError: its results could not be right.
    """
    name, rest = words[0], list(words[1:])
    text = " ".join(words)
    why = None
    if name in REPLICAS:
        why = "it needs several replicas, each on a rank of its own, and this runs on one"
    elif name == "run_style" and rest[:1] != ["verlet"]:
        why = "LAMMPS does not ask fix external within its steps; leave the line out, or write `run_style verlet`"
    elif name == "pair_style" and STYLE in rest and rest[0] not in (STYLE, "hybrid", "hybrid/overlay"):
        why = f"a factor or another rule of {rest[0]} does not reach the calculator; {_PAIR_STYLE}"
    elif name == "plugin" and rest[:1] == ["load"] and any(STYLE in word for word in rest):
        why = "the compiled pair style and the calculator would both act; leave the line out, or run the input by `lmp`"
    elif name == "neigh_modify" and _leaves_out(rest):
        why = "the calculator sees all atoms, whatever neighbour lists leave out; hold atoms by `fix setforce` instead"
    elif name == "run" and "every" in rest:
        why = _every(rest[rest.index("every") + 2 :])
    elif name == "fix":
        why = _fix(rest, fix)
    elif name in ("fix_modify", "unfix") and rest[:1] == [fix]:
        why = f"fix {fix} is the calculator itself, and its energy and virial have to count; leave the line out"
    elif name == "compute":
        why = _compute(rest, missing)
    if why is not None:
        raise OptionError(f"`mlff lammps run` cannot do `{text}`: {why}")


def asks_of_atoms(words: Sequence[str]) -> bool:
    """Whether a `compute` asks for the calculator's share of each atom, and not for other terms alone."""
    style, terms = "".join(words[3:4]), _terms(words[3:])
    return style in PROPERTY_OF and not (terms and terms <= _OTHER_TERMS)


def refuse_state(lammps: Any) -> None:
    """Ask LAMMPS itself, before it computes, whether the calculator acts alone and in every step.

    Raises:
        OptionError: the compiled pair style is there as well, or LAMMPS integrates in levels.
    """
    if str(lammps.extract_global("pair_style") or "").startswith(STYLE):
        raise OptionError("the compiled `pair_style mlff` is in use, and the calculator would act beside it; use `lmp`")
    if lammps.extract_global("respa_levels"):
        raise OptionError("run_style respa does not ask fix external within its steps; write `run_style verlet`")


def refuse_minimizing(asked: Mapping[str, str]) -> None:
    """Look at the computes of atoms before `minimize`.

    LAMMPS tells `fix external` in runs, and not in minimizations, whether energies of atoms are wanted; they would be zero.

    Args:
        asked: style of each compute that needs the calculator's share of each atom, by its ID.

    Raises:
        OptionError: one of them is of energies.
    """
    for name, style in asked.items():
        if style == "pe/atom":
            raise OptionError(
                f"`mlff lammps run` cannot do `minimize` with compute {name} of style pe/atom: LAMMPS does not take "
                "energies of atoms from fix external there; write the compute after `minimize`, and `run 0` after it, or "
                f"`uncompute {name}`"
            )


def without_pair_style(lammps: Any) -> None:
    """Take the compiled pair style from this LAMMPS: whatever names it by a way not seen here is an error then."""
    if ["pair", STYLE] in lammps.available_plugins():
        lammps.command(f"plugin unload pair {STYLE}")


def _every(commands: Sequence[str]) -> str | None:
    for command in commands:
        first = command.split()[:1]
        if first and (first[0] in _WATCHED or "$" in first[0]):
            return f"`{command}` would be carried out by LAMMPS alone, within the run; write several `run` commands"
    return None


def _leaves_out(options: Sequence[str]) -> bool:
    """Whether `neigh_modify` takes pairs out of lists; what stands beside an `exclude none` counts by itself."""
    harmless = {"exclude": "none", "include": "all"}
    return any(harmless.get(key, value) != value for key, value in pairwise(options))


def _terms(words: Sequence[str]) -> set[str]:
    """What a compute of energies or stresses counts, from its style on; nothing where it counts everything."""
    return set(words[1:] if words[:1] in (["pe"], ["pe/atom"]) else words[2:])


def _fix(rest: list[str], fix: str) -> str | None:
    style = rest[2] if len(rest) > 2 else ""
    if style in TRIALS:
        return f"fix {style} judges trial moves by energies that do not follow what it hides or adds; leave it out"
    if style == "adapt" and STYLE in rest:
        return "what it scales does not reach the calculator"
    if rest[:1] == [fix] and rest[1:] != ["all", "external", "pf/callback", "1", "1"]:
        return f"the ID {fix} is that of the calculator's fix; choose another"
    return None


def _compute(rest: list[str], missing: Collection[str]) -> str | None:
    style, more = (rest[2] if len(rest) > 2 else ""), rest[3:]
    if style == "pair" and STYLE not in more:
        return None  # of another style
    if style in PAIRWISE:
        return f"compute {style} asks the pair style, and the forces here are not its; {_PAIR_STYLE}, where that allows it"
    if style in ("pe/atom", "stress/atom"):
        terms = _terms(rest[2:])
        if terms and terms <= _OTHER_TERMS:
            return None
        if terms and not terms & {"fix", "virial"}:
            return f"the calculator's part is that of a fix: write `fix` in place of `pair` in compute {style}"
        if style in missing:
            return f"the calculator has no part for compute {style}, so that it would be zero; {_PAIR_STYLE}"
    if style in ("pe", "pressure"):
        terms = _terms(rest[2:])
        if terms and "pair" in terms and not terms & {"fix", "virial"}:
            return f"the calculator's part is that of a fix: write `fix` in place of `pair` in compute {style}"
    return None
