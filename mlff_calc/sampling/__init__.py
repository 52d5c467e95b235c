"""Many structures at once: relaxations, dynamics, replica exchange, and conformer ensembles."""

from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.conformer_search import conformers
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.evaluators import BatchedPotential, Evaluation, Evaluator, OneByOne
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.molecules import Molecule, MoleculeError, read_molecules
from mlff_calc.sampling.relax import Relaxed, relax_many, relax_systems
from mlff_calc.sampling.replica_exchange import Exchanged, exchange, geometric_ladder
from mlff_calc.sampling.settings import Search
from mlff_calc.sampling.systems import Systems
from mlff_calc.sampling.workers import Workers
from mlff_calc.sampling.writers import write_ensemble

__all__ = [
    "BatchedPotential",
    "Ensemble",
    "Evaluation",
    "Evaluator",
    "Exchanged",
    "Langevin",
    "Molecule",
    "MoleculeError",
    "OneByOne",
    "Relaxed",
    "Search",
    "Systems",
    "Workers",
    "conformers",
    "evaluator_of",
    "exchange",
    "geometric_ladder",
    "read_molecules",
    "relax_many",
    "relax_systems",
    "write_ensemble",
]
