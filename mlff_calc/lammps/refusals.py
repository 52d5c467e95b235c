"""Commands that `fix external` cannot serve correctly, which are refused before LAMMPS gets them.

LAMMPS would accept all of these silently, with energies or forces of another system.
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
"""Fixes that accept or reject moves by energies that they compute themselves."""
PAIRWISE = frozenset({
    "pair", "pair/local", "group/group", "heat/flux", "heat/flux/tally", "heat/flux/virial/tally", "force/tally",
    "pe/tally", "pe/mol/tally", "stress/tally", "stress/mop", "stress/mop/profile", "stress/cartesian",
    "stress/cylinder", "stress/spherical", "centroid/stress/atom", "fep", "fep/ta", "ti", "born/matrix",
})  # fmt: skip
"""Computes that use the pair style, which does not know the calculator's energy."""
REPLICAS = frozenset({"neb", "neb/spin", "temper", "temper/npt", "temper/grem", "prd", "tad", "hyper"})
_OTHER_TERMS = frozenset({"ke", "bond", "angle", "dihedral", "improper"})
_WATCHED = frozenset(
    {"pair_style", "pair_coeff", "fix", "fix_modify", "unfix", "compute", "neigh_modify", "run_style", "plugin"}
    | {"uncompute", "run", "if", "include", "jump", "clear", "read_restart", "read_data", "suffix"} | REPLICAS
)  # fmt: skip
_PAIR_STYLE = "it works with the compiled pair style (`mlff lammps build`, then `lmp`)"


def watched(name: str) -> bool:
    """Whether commands of this name are checked, so that their variables must be expanded first."""
    return name in _WATCHED


def refuse_command(words: Sequence[str], fix: str, missing: Collection[str] = ()) -> None:
    """Check one command.

    Args:
        words: words of the command, without variables and quotes.
        fix: ID of the fix external.
        missing: computes per atom that the calculator cannot serve.

    Raises:
        OptionError: its results would be wrong.
    """
    name, rest = words[0], list(words[1:])
    text = " ".join(words)
    why = None
    if name in REPLICAS:
        why = "it needs several replicas on different ranks, but this runs on one rank"
    elif name == "run_style" and rest[:1] != ["verlet"]:
        why = "LAMMPS does not ask fix external within its steps; leave the line out, or write `run_style verlet`"
    elif name == "pair_style" and STYLE in rest and rest[0] not in (STYLE, "hybrid", "hybrid/overlay"):
        why = f"a factor or another rule of {rest[0]} does not reach the calculator; {_PAIR_STYLE}"
    elif name == "plugin" and rest[:1] == ["load"] and any(STYLE in word for word in rest):
        why = "the compiled pair style and the calculator would both act; leave the line out, or run the input by `lmp`"
    elif name == "neigh_modify" and _leaves_out(rest):
        why = "the calculator sees all atoms, even those left out of neighbour lists; hold atoms by `fix setforce` instead"
    elif name == "run" and "every" in rest:
        why = _every(rest[rest.index("every") + 2 :])
    elif name == "fix":
        why = _fix(rest, fix)
    elif name in ("fix_modify", "unfix") and rest[:1] == [fix]:
        why = f"fix {fix} is the calculator itself, whose energy and virial must count; leave the line out"
    elif name == "compute":
        why = _compute(rest, missing)
    if why is not None:
        raise OptionError(f"`mlff lammps run` cannot do `{text}`: {why}")


def asks_of_atoms(words: Sequence[str]) -> bool:
    """Whether a `compute` needs the calculator's values per atom, and not only other terms."""
    style, terms = "".join(words[3:4]), _terms(words[3:])
    return style in PROPERTY_OF and not (terms and terms <= _OTHER_TERMS)


def refuse_state(lammps: Any) -> None:
    """Check, before LAMMPS computes, that the calculator acts alone and in every step.

    Raises:
        OptionError: the compiled pair style is also in use, or LAMMPS integrates in levels.
    """
    if str(lammps.extract_global("pair_style") or "").startswith(STYLE):
        raise OptionError("the compiled `pair_style mlff` is in use, and the calculator would act in addition; use `lmp`")
    if lammps.extract_global("respa_levels"):
        raise OptionError("run_style respa does not ask fix external within its steps; write `run_style verlet`")


def refuse_minimizing(asked: Mapping[str, str]) -> None:
    """Check the computes per atom before `minimize`.

    LAMMPS tells `fix external` only in runs, not in minimizations, that energies per atom are needed; they would be
    zero.

    Args:
        asked: style of each compute that needs the calculator's values per atom, by its ID.

    Raises:
        OptionError: a compute needs energies per atom.
    """
    for name, style in asked.items():
        if style == "pe/atom":
            raise OptionError(
                f"`mlff lammps run` cannot do `minimize` with compute {name} of style pe/atom: LAMMPS does not take "
                "energies of atoms from fix external there; write the compute after `minimize`, and `run 0` after it, or "
                f"`uncompute {name}`"
            )


def without_pair_style(lammps: Any) -> None:
    """Unload the compiled pair style, so that any use of it that is not noticed here is an error."""
    if ["pair", STYLE] in lammps.available_plugins():
        lammps.command(f"plugin unload pair {STYLE}")


def _every(commands: Sequence[str]) -> str | None:
    for command in commands:
        first = command.split()[:1]
        if first and (first[0] in _WATCHED or "$" in first[0]):
            return f"`{command}` would be carried out by LAMMPS alone, within the run; write several `run` commands"
    return None


def _leaves_out(options: Sequence[str]) -> bool:
    """Whether `neigh_modify` removes pairs from lists; options beside an `exclude none` count on their own."""
    harmless = {"exclude": "none", "include": "all"}
    return any(harmless.get(key, value) != value for key, value in pairwise(options))


def _terms(words: Sequence[str]) -> set[str]:
    """Return the terms that a compute of energies or stresses includes; empty where it includes all."""
    return set(words[1:] if words[:1] in (["pe"], ["pe/atom"]) else words[2:])


def _fix(rest: list[str], fix: str) -> str | None:
    style = rest[2] if len(rest) > 2 else ""
    if style in TRIALS:
        return f"fix {style} judges trial moves by energies that do not follow its hidden or added atoms; leave it out"
    if style == "adapt" and STYLE in rest:
        return "what it scales does not reach the calculator"
    if rest[:1] == [fix] and rest[1:] != ["all", "external", "pf/callback", "1", "1"]:
        return f"the ID {fix} is that of the calculator's fix; choose another"
    return None


def _compute(rest: list[str], missing: Collection[str]) -> str | None:
    style, more = (rest[2] if len(rest) > 2 else ""), rest[3:]
    if style == "pair" and STYLE not in more:
        return None  # the compute is of another style
    if style in PAIRWISE:
        return f"compute {style} uses the pair style, not the calculator; {_PAIR_STYLE}, where that allows it"
    if style in ("pe/atom", "stress/atom"):
        terms = _terms(rest[2:])
        if terms and terms <= _OTHER_TERMS:
            return None
        if terms and not terms & {"fix", "virial"}:
            return f"the calculator's part is that of a fix: write `fix` in place of `pair` in compute {style}"
        if style in missing:
            return f"the calculator has no values for compute {style}, which would be zero; {_PAIR_STYLE}"
    if style in ("pe", "pressure"):
        terms = _terms(rest[2:])
        if terms and "pair" in terms and not terms & {"fix", "virial"}:
            return f"the calculator's part is that of a fix: write `fix` in place of `pair` in compute {style}"
    return None
