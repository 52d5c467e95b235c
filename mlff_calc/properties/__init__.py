"""Properties of structures with error bars: a backbone with a head for one number or its distribution."""

from mlff_calc.properties.build import build_property
from mlff_calc.properties.load import load_property
from mlff_calc.properties.model import PropertyNetwork
from mlff_calc.properties.prediction import PropertyPrediction
from mlff_calc.properties.predictive import LEVELS, Predictive
from mlff_calc.properties.standard import POOLINGS, standard_of

__all__ = [
    "LEVELS",
    "POOLINGS",
    "Predictive",
    "PropertyNetwork",
    "PropertyPrediction",
    "build_property",
    "load_property",
    "standard_of",
]
