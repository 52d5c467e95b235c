"""`mlff compile`: compile a potential ahead of time and keep it in the cache."""

from __future__ import annotations

from typing import Annotated

import typer


def compile_(
    potential: Annotated[str, typer.Argument(help="Name of a shipped potential, or path of a potential's folder.")],
    precision: Annotated[str, typer.Option(help="float32, mixed or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads the code is made for (default: torch's).")] = None,
) -> None:
    """Compile a potential for this machine; later runs with --compile start from the cache.

    The result is compared with the eager potential on two system sizes before it is kept.
    """
    import time

    import torch
    from rich.console import Console

    from mlff_calc.export import compile_potential
    from mlff_calc.potential import load_potential

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    console = Console()
    start = time.monotonic()
    with console.status(f"compiling {potential} for {device} in {precision} (one to two minutes when it is new)"):
        compiled = compile_potential(load_potential(potential), device=device, precision=precision)
    threads, elapsed_s = torch.get_num_threads(), time.monotonic() - start
    console.print(f"{potential}, {precision}, {device}, {threads} threads: ready in {elapsed_s:.1f} s")
    console.print(str(compiled.path), soft_wrap=True)
