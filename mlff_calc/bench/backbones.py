"""Comparison of backbones: time of one energy with forces, or of one training step of motion, measured in turns.

Weights are random, since they do not change the cost of a step, and options have their defaults. CPU time is measured, which
other programs on the machine hardly change. Ratios are computed within a round, and their median is reported. A profile by
operators is taken several times, and reports the smallest time of each operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlff_calc.backbones import available_backbones, build_backbone
from mlff_calc.backbones.base import backbone_options
from mlff_calc.bench.systems import build_system
from mlff_calc.bench.threads import limited_threads
from mlff_calc.errors import OptionError
from mlff_calc.export import compile_potential
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import build_potential

DEFAULT_BACKBONES = "hegnn:0,hegnn:1,hegnn:3,cg_egnn,equiformer"
CUTOFF = 5.0
"""Cutoff of potentials, Angstrom; a larger one gives more edges and longer steps."""
TURN = 3
"""Timed steps of a backbone in a round, after one that is not timed. More steps give smoother figures and longer rounds."""
PROFILES = 10
"""Number of profiles of a step; more of them remove more of the noise."""
MOTION_CUTOFF = 9.0
"""Cutoff of propagators. Their edges join all bodies of a system regardless of it."""
SYSTEMS_OF_MOTION, BODIES = 100, 5
"""Number of systems in a batch of motion, and of bodies in each; more of either make longer steps."""
Step = Callable[[], object]


def parse_backbones(text: str) -> dict[str, dict[str, Any]]:
    """Return the options of backbones by label, from a comma-separated list of `name` or `name:l_max`.

    Raises:
        OptionError: The list is empty, a backbone is unknown or has no `l_max`, or an `l_max` is not a number.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in (word.strip() for word in text.split(",")):
        name, _, degree = word.partition(":")
        if name not in available_backbones():
            raise OptionError(f"{word!r} names no backbone to time; give some of {', '.join(available_backbones())}")
        if degree and (not degree.isdigit() or "l_max" not in backbone_options(name)):
            raise OptionError(f"{word!r}: what follows the colon is l_max of {name}, a whole number, as in hegnn:3")
        found[word] = {"name": name} | ({"l_max": int(degree)} if degree else {})
    return found


def time_forces(
    backbones: dict[str, dict[str, Any]], systems: list[str], *, rounds: int, compiled: bool, threads: int = 1
) -> list[dict[str, Any]]:
    """Time energy and forces of every backbone on every system.

    Returns:
        A row per system and backbone: `ms` (median), `min_ms`, and `ratio` to the first backbone.

    Raises:
        OptionError: A system is unknown.
        ExportError: A backbone does not compile.
    """
    atoms = {name: build_system(name) for name in systems}
    elements = sorted({int(z) for structure in atoms.values() for z in structure.numbers})
    rows = []
    with limited_threads(threads):
        networks = {}
        for word, options in backbones.items():
            config = {"backbone": {"cutoff": CUTOFF, **options}, "elements": elements}
            potential = build_potential(config, seed=0).eval().requires_grad_(False)
            networks[word] = compile_potential(potential) if compiled else potential
        for name, structure in atoms.items():
            graph = graph_from_atoms(structure, CUTOFF)
            steps = {word: _bound(network, graph) for word, network in networks.items()}
            facts = {"system": name, "n_edges": graph["edge_index"].shape[1]}
            rows += [{**facts, "backbone": word, **row} for word, row in steps_in_turns(steps, rounds).items()]
    return rows


def time_motion(backbones: dict[str, dict[str, Any]], *, rounds: int, threads: int = 1) -> list[dict[str, Any]]:
    """Time forward and backward passes on 100 systems of 5 bodies, each with edges between all of its bodies.

    Backbones that have the option `moves` are built with it, so that they move atoms.

    Returns:
        Rows as in `time_forces`.
    """
    with limited_threads(threads):
        steps = motion_steps(backbones)
        n_edges = SYSTEMS_OF_MOTION * BODIES * (BODIES - 1)
        facts = {"system": f"{SYSTEMS_OF_MOTION} x {BODIES} bodies", "n_edges": n_edges}
        return [{**facts, "backbone": word, **row} for word, row in steps_in_turns(steps, rounds).items()]


def motion_steps(backbones: dict[str, dict[str, Any]]) -> dict[str, Step]:
    """Return a training step of motion for each backbone, all on the same random bodies."""
    steps = {}
    for word, options in backbones.items():
        moving = {"moves": True} if "moves" in backbone_options(options["name"]) else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build_backbone({"cutoff": MOTION_CUTOFF, **moving, **options}, n_species=1)
        network.limit_outputs(1)  # as propagators do
        steps[word] = _training(network, bodies(network.channels))
    return steps


def bodies(channels: int) -> dict[str, Tensor]:
    """Return a graph of bodies at normally distributed positions, with random features."""
    generator = torch.Generator().manual_seed(0)
    n_atoms = SYSTEMS_OF_MOTION * BODIES
    pairs = torch.cartesian_prod(torch.arange(BODIES), torch.arange(BODIES))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    edge_index = torch.cat([pairs + BODIES * k for k in range(SYSTEMS_OF_MOTION)]).t().contiguous()
    positions = torch.randn(n_atoms, 3, dtype=torch.float64, generator=generator)
    return {
        "species": torch.zeros(n_atoms, dtype=torch.long),
        "edge_index": edge_index,
        "edge_vec": positions[edge_index[1]] - positions[edge_index[0]],
        "drift": torch.randn(n_atoms, 3, generator=generator),
        "input_features": torch.randn(n_atoms, 4, channels, generator=generator),
    }


def profile_operators(step: Step, n_kept: int) -> list[dict[str, Any]]:
    """Return the operators in which a step spends most time, with calls and ms, longest first after the sum `(all)`."""
    from torch.profiler import ProfilerActivity, profile

    least: dict[str, tuple[float, int]] = {}
    for _ in range(PROFILES):
        with profile(activities=[ProfilerActivity.CPU]) as taken:
            step()
        for event in taken.key_averages():
            before = least.get(event.key, (np.inf, 0))[0]
            least[event.key] = (min(before, 1e-3 * event.self_cpu_time_total), event.count)
    rows = [
        {"operator": "(all)", "calls": sum(n for _, n in least.values()), "ms": sum(ms for ms, _ in least.values())}
    ]
    longest = sorted(least.items(), key=lambda item: -item[1][0])[:n_kept]
    return rows + [{"operator": name, "calls": calls, "ms": ms} for name, (ms, calls) in longest]


def force_step(options: dict[str, Any], system: str) -> Step:
    """Return a step that computes energy and forces of a system by an eager potential with random weights."""
    atoms = build_system(system)
    config = {"backbone": {"cutoff": CUTOFF, **options}, "elements": sorted({int(z) for z in atoms.numbers})}
    return _bound(build_potential(config, seed=0).eval().requires_grad_(False), graph_from_atoms(atoms, CUTOFF))


def _bound(network: Callable[[dict[str, Tensor]], object], graph: dict[str, Tensor]) -> Step:
    return lambda: network(graph)


def _training(network: torch.nn.Module, graph: dict[str, Tensor]) -> Step:
    def step() -> None:
        network.zero_grad()
        out = network(graph)
        loss = out["node_features"].square().mean()
        if "moved" in out:
            loss = loss + out["moved"].square().mean()
        loss.backward()

    return step


def steps_in_turns(steps: dict[str, Step], rounds: int, turn: int = TURN) -> dict[str, dict[str, float]]:
    """Time steps in turns.

    Args:
        steps: Steps by name.
        rounds: Number of rounds, after one that is not counted.
        turn: Number of timed steps of each in a round, after one that is not timed.

    Returns:
        For each name the processor time `ms` (median), `min_ms`, and `ratio`, the median ratio to the first.
    """
    seconds = np.empty((rounds, len(steps)))
    for number in range(-1, rounds):  # the first round warms up
        for column, step in enumerate(steps.values()):
            step()
            start = time.process_time()
            for _ in range(turn):
                step()
            if number >= 0:
                seconds[number, column] = (time.process_time() - start) / turn
    medians, ratios = np.median(seconds, axis=0), np.median(seconds / seconds[:, :1], axis=0)
    lowest = seconds.min(axis=0)
    return {
        word: {"ms": 1e3 * ms, "min_ms": 1e3 * low, "ratio": float(ratio)}
        for word, ms, low, ratio in zip(steps, medians.tolist(), lowest.tolist(), ratios, strict=True)
    }
