"""A potential as a client of i-PI, which drives path integrals, replica exchange and more over a socket.

Connect to an i-PI that is running and whose input names the same socket:

    i-pi input.xml &
    python md_runs/ipi_socket.py --structure water.xyz --potential ethanol --unixsocket mlff
    python md_runs/ipi_socket.py --structure water.xyz --potential ethanol --host server --port 31415

As a test without i-PI, ASE's server moves the atoms, a client in a separate process computes the forces, and these are
compared with those of the calculator itself:

    python md_runs/ipi_socket.py --demo
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.socketio import SocketClient, SocketIOCalculator
from ase.io import read, write
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import MLFFError


def serve(atoms: Atoms, calculator: MLFFCalculator, options: argparse.Namespace) -> None:
    """Answer the server until it ends the connection.

    Elements, their order and periodicity come from the structure, positions and cell from the socket. A molecule without
    periodic boundaries has no stress, so zeros are sent.
    """
    atoms.calc = calculator
    client = SocketClient(host=options.host, port=options.port, unixsocket=options.unixsocket)
    try:
        client.run(atoms, use_stress=bool(atoms.pbc.any()))
    finally:
        client.close()
    print(f"the server is done after {calculator.stats.n_calls} evaluations")


def demo(potential: str, precision: str, steps: int) -> None:
    """Run ethanol at constant energy over a unix socket, and print the largest difference to the calculator itself."""
    atoms = molecule("CH3CH2OH")
    atoms.center(vacuum=6.0)
    direct = MLFFCalculator(potential, precision=precision, reuse="none")
    name = f"mlff-{uuid.uuid4().hex[:8]}"  # becomes /tmp/ipi_NAME
    with tempfile.TemporaryDirectory() as folder:
        structure = Path(folder) / "start.extxyz"
        write(structure, atoms)
        command = [sys.executable, __file__, "--structure", str(structure), "--potential", potential]
        command += ["--precision", precision, "--reuse", "none", "--unixsocket", name]
        clients = []

        def launch(*_: object, **__: object) -> subprocess.Popen:
            clients.append(subprocess.Popen(command))
            return clients[-1]

        with SocketIOCalculator(launch_client=launch, unixsocket=name, timeout=120) as server:
            atoms.calc = server
            MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
            dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
            largest = 0.0
            for _ in dynamics.irun(steps):
                forces = direct.evaluate(atoms)["forces"]
                largest = max(largest, float(np.abs(atoms.get_forces() - forces).max()))
            energies = atoms.get_potential_energy(), direct.evaluate(atoms)["energy"]
        clients[0].wait(timeout=60)
    print(f"{steps} steps over the socket; largest difference of a force: {largest:.2e} eV/Angstrom")
    print(f"energy over the socket {energies[0]:.8f} eV, asked directly {energies[1]:.8f} eV")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol", help="name or folder")
    parser.add_argument("--structure", type=Path, help="file with elements, cell and periodicity that ASE reads")
    parser.add_argument("--unixsocket", help="name of the socket (/tmp/ipi_NAME), instead of host and port")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=31415)
    parser.add_argument("--precision", default="float64", choices=["float32", "mixed", "float64"])
    parser.add_argument("--compile", action="store_true", help="compile the potential, for long runs")
    parser.add_argument("--reuse", default="auto", help="reuse of fixed points; none for path integrals, see the docs")
    parser.add_argument("--demo", action="store_true", help="test with ASE's server")
    parser.add_argument("--steps", type=int, default=20, help="number of steps of --demo")
    options = parser.parse_args()
    if options.demo:
        demo(options.potential, options.precision, options.steps)
        return
    if options.structure is None:
        parser.error("--structure is needed: i-PI sends positions without elements")
    try:
        atoms = read(options.structure)
        calculator = MLFFCalculator(
            options.potential, precision=options.precision, compile=options.compile, reuse=options.reuse
        )
        serve(atoms, calculator, options)
    except (MLFFError, OSError) as error:
        where = options.unixsocket or f"{options.host}:{options.port}"
        raise SystemExit(f"ipi_socket.py: {error} (socket {where}; i-PI must be started first)") from None


if __name__ == "__main__":
    main()
