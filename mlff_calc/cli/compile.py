"""`mlff compile`: compile a potential ahead of time and keep it in the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from mlff_calc.cli import options


def compile_(
    potential: options.Potential,
    precision: options.Precision = options.PrecisionName.float32,
    device: options.Device = "auto",
    reuse: options.Reuse = options.ReuseName.auto,
    threads: Annotated[
        int | None,
        typer.Option("--threads", help="Number of threads of the code (default: torch's).", min=1, show_default=False),
    ] = None,
) -> None:
    """Compile a potential for this machine; later runs with --compile start from the cache.

    The result is compared with the eager potential on a few structures before it is kept. For a potential with a fixed
    point the step of a trajectory is compiled, once for each way of reuse.
    """
    import time

    import torch
    from rich.console import Console

    from mlff_calc.calculators.models import reuse_mode
    from mlff_calc.device import resolve_device
    from mlff_calc.export import compile_potential
    from mlff_calc.potential import load_potential

    target = resolve_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    console = Console()
    start = time.monotonic()
    loaded = load_potential(potential)
    mode = reuse_mode(loaded, {"reuse": reuse.value, "precision": precision.value})
    step = None if mode is None else mode.sizes
    compiled = compile_potential(loaded, device=target, precision=precision.value, step=step)
    threads, elapsed_s = torch.get_num_threads(), time.monotonic() - start
    console.print(f"{potential}, {precision.value}, {target}, {threads} threads: ready in {elapsed_s:.1f} s")
    console.print(str(compiled.path), soft_wrap=True)
