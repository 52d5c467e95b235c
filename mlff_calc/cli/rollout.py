"""`mlff rollout`: later positions of a structure with velocities, by a trained rollout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import options

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

MOST_TIMES = 100_000
"""Largest number of times, which are predicted in one go. Raising it takes more memory."""
SAME = 0.05
"""Largest difference of a coordinate between a structure and the frame of the reference that it is said to be, Angstrom.
Raising it accepts structures in files of fewer digits."""


def rollout(
    model: Annotated[str, typer.Argument(help="Folder of a rollout, or name of one that ships.", show_default=False)],
    structure: Annotated[
        Path, typer.Argument(help="File that ASE reads; its last structure, with velocities.", show_default=False)
    ],
    times: Annotated[
        str, typer.Option("--times", "-t", help="Times in fs: 5,10,20fs, or first:last:step.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of frames (.extxyz).")] = Path("rollout.extxyz"),
    chain: Annotated[
        bool,
        typer.Option("--chain", help="Go on beyond the trained horizon from predicted states; without known error bars."),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw bond lengths, their spectrum and sigma to this PNG file.", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A trajectory (layout of MD17) to compare with, also in the picture.", show_default=False),
    ] = None,
    reference_start: Annotated[
        int, typer.Option(help="Frame of the reference that is the structure.", min=0)
    ] = 0,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionName.float32,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Predict positions, velocities and error bars of a molecule at any later times.

    Frames hold velocities, `time` (fs) in info and `sigma` (Angstrom, per component) as an array.
    """
    import io

    import ase.io
    import numpy as np

    from mlff_calc.cli.bars import Bars
    from mlff_calc.device import resolve_device
    from mlff_calc.dynamics.structures import structure_to_start
    from mlff_calc.errors import OptionError, StructureError
    from mlff_calc.networks import find_network, trained_reading
    from mlff_calc.rollout import load_rollout, trajectories
    from mlff_calc.rollout.molecule import first_state
    from mlff_calc.rollout.picture import draw
    from mlff_calc.rollout.trajectory import checked_times
    from mlff_calc.whole_files import write_whole

    asked = times_of(times)
    if output.suffix != ".extxyz":
        raise OptionError(f"{output} ends with {output.suffix or 'nothing'}; frames are written as .extxyz")
    if picture is not None and picture.suffix.lower() != ".png":
        raise OptionError(f"{picture} ends with {picture.suffix or 'nothing'}; pictures are written as .png")
    for file in (output, picture):
        if file is not None and file.exists() and not overwrite:
            raise OptionError(f"{file} would be replaced; give --overwrite, or another name")
        if file is not None and not file.absolute().parent.is_dir():
            raise OptionError(f"{file}: there is no folder {file.absolute().parent}; make it, or give another name")
    network = load_rollout(model).to_precision(precision.value).to(resolve_device(device))
    atoms = structure_to_start(str(structure), shown="STRUCTURE")
    step = trained_reading(find_network(model)).get("timestep")
    truth = None
    if reference is not None:
        later = checked_times(asked, network.horizon, chain=chain)
        first_state(atoms, network.config, str(structure))
        truth = _reference(reference, reference_start, atoms, later, network.config, step)
    with Bars(quiet=quiet) as bars:
        found = trajectories(network, [atoms], asked, chain=chain, names=[str(structure)], on_progress=bars.show)
    one = found.of(0).known()
    if not len(one.times):
        raise StructureError(f"{structure} loses its bonds before {asked[0]:g} fs, the first time; give earlier times")
    if truth is not None:
        truth = truth[: len(one.times)]
    text = io.StringIO()
    heavy = bool(network.config["heavy_atoms"])
    ase.io.write(text, one.to_ase(atoms, heavy_atoms=heavy), format="extxyz")
    write_whole(output, text.getvalue())
    if picture is not None:
        draw(one, network.config["bonds"], picture, truth)
    last = float(np.sqrt((one.sigma[-1] ** 2).mean()))
    ends = ", after which the bonds are lost" if len(one.times) < len(asked) else ""
    typer.echo(f"{len(one.times)} frames to {one.times[-1]:g} fs{ends} in {output}; sigma at the end {last:.3g} Angstrom")
    if truth is not None:
        error = np.sqrt(((one.positions - truth) ** 2).mean(axis=(1, 2)))
        typer.echo(f"error against {reference}: {error[0]:.3g} Angstrom at {one.times[0]:g} fs, {error[-1]:.3g} at the end")


def times_of(text: str) -> list[float]:
    """Parse times: numbers with commas, or first:last:step, with or without fs at the end.

    Raises:
        OptionError: The text is something else; the message names the part.
    """
    import numpy as np

    from mlff_calc.errors import OptionError

    plain = text.strip().removesuffix("fs")
    words = plain.split(":" if ":" in plain else ",")
    numbers = []
    for word in words:
        try:
            numbers.append(float(word.strip().removesuffix("fs")))
        except ValueError:
            raise OptionError(f"--times is {text!r}, and {word.strip()!r} is no number; give 5,10,20fs or 1:100:1") from None
    if ":" not in plain:
        return numbers
    if len(numbers) != 3 or not np.isfinite(numbers).all() or not numbers[2] > 0.0 or numbers[1] < numbers[0]:
        raise OptionError(f"--times is {text!r}; give first:last:step with a step above 0, such as 1:100:1")
    first, last, step = numbers
    n_steps = np.floor((last - first) / step + 1e-9)
    if n_steps >= MOST_TIMES:
        raise OptionError(f"--times is {text!r}: {n_steps + 1:g} times, where {MOST_TIMES} are the most; give a longer step")
    return [float(f"{first + step * number:.12g}") for number in range(int(n_steps) + 1)]


def _reference(
    path: Path, start: int, atoms: Atoms, times: np.ndarray, config: dict[str, object], timestep: float | None
) -> np.ndarray:
    """Positions of a trajectory at times, fs; between frames interpolated."""
    import numpy as np

    from mlff_calc.datasets.motion.windows import read_run
    from mlff_calc.errors import DatasetError
    from mlff_calc.rollout.molecule import kept_atoms

    run = read_run(path, otherwise=timestep)
    kept = kept_atoms(run.numbers, heavy_atoms=bool(config["heavy_atoms"]))
    run = run.of_atoms(kept)
    if run.numbers.tolist() != config["numbers"]:
        raise DatasetError(f"{path} holds another molecule or another order of atoms than the rollout")
    skipped = int(run.differences)
    place = start - skipped + times / run.timestep
    if start < skipped or place[-1] > len(run.positions) - 1:
        raise DatasetError(
            f"{path} has {len(run.positions)} frames, and the times reach from frame {place[0]:g} to {place[-1]:g}; change "
            "--reference-start or --times"
        )
    apart = np.abs(run.positions - atoms.positions[kept]).max(axis=(1, 2))
    if apart[start - skipped] > SAME:
        nearest = int(apart.argmin())
        raise DatasetError(
            f"frame {start} of {path} is another structure than STRUCTURE, {apart[start - skipped]:.3g} Angstrom apart; "
            f"frame {nearest + skipped} is nearest ({apart[nearest]:.3g} Angstrom). Give it by --reference-start"
        )
    left = np.minimum(np.floor(place).astype(int), len(run.positions) - 2)
    share = (place - left)[:, None, None]
    return (1.0 - share) * run.positions[left] + share * run.positions[left + 1]
