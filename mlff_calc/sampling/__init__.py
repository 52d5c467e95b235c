"""Many structures at once: relaxations, dynamics, replica exchange, conformer ensembles, samples of score models."""

from mlff_calc.datasets.molecules import Molecule, MoleculeError, read_molecules
from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.compare import Comparison, compare_conformers, compare_samples
from mlff_calc.sampling.conformer_search import conformers
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.evaluators import BatchedPotential, Evaluation, Evaluator, OneByOne
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.model_samples import Samples, sample_model
from mlff_calc.sampling.relax import Relaxed, relax_many, relax_systems
from mlff_calc.sampling.replica_exchange import Exchanged, exchange, geometric_ladder
from mlff_calc.sampling.reweighting import Reweighted, effective_sample_size, reweigh
from mlff_calc.sampling.settings import Search
from mlff_calc.sampling.systems import Systems
from mlff_calc.sampling.workers import Workers
from mlff_calc.sampling.writers import write_ensemble

__all__ = [
    "BatchedPotential",
    "Comparison",
    "Ensemble",
    "Evaluation",
    "Evaluator",
    "Exchanged",
    "Langevin",
    "Molecule",
    "MoleculeError",
    "OneByOne",
    "Relaxed",
    "Reweighted",
    "Samples",
    "Search",
    "Systems",
    "Workers",
    "compare_conformers",
    "compare_samples",
    "conformers",
    "effective_sample_size",
    "evaluator_of",
    "exchange",
    "geometric_ladder",
    "read_molecules",
    "relax_many",
    "relax_systems",
    "reweigh",
    "sample_model",
    "write_ensemble",
]
