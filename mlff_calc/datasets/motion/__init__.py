"""Pairs of frames of N-body systems, molecules and skeletons, and a simulator of N-body systems."""

from __future__ import annotations

from mlff_calc.datasets.motion.nbody import NBODY_PROTOCOLS, NBodyStart, draw_start, simulate
from mlff_calc.datasets.motion.nbody_files import NBodyOptions, make_nbody, save_archive
from mlff_calc.datasets.motion.read import MOTION_FORMATS, find_format, motion_files, read_motion, read_motion_parts
from mlff_calc.datasets.motion.sample import MotionSample, check_sample

__all__ = [
    "MOTION_FORMATS",
    "NBODY_PROTOCOLS",
    "MotionSample",
    "NBodyOptions",
    "NBodyStart",
    "check_sample",
    "draw_start",
    "find_format",
    "make_nbody",
    "motion_files",
    "read_motion",
    "read_motion_parts",
    "save_archive",
    "simulate",
]
