// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// Is the potential to be trusted here? Compares the spread of each force, which a potential with heads of errors predicts, with
// the largest one that it was calibrated for.

#pragma once

#include "lmptype.h"
#include "pointers.h"

#include <ATen/core/Tensor.h>

#include <string>

namespace mlff {

class SpreadWatch : protected LAMMPS_NS::Pointers {
 public:
  // threshold: eV/Angstrom. stops: end LAMMPS above it; otherwise warn once, and count.
  SpreadWatch(LAMMPS_NS::LAMMPS *lammps, std::string path, double threshold, bool stops);

  // Longest row of spreads [n, 3] among the atoms of this rank that count in owned [n]; infinite for one that is no number.
  double longest(const at::Tensor &spreads, const at::Tensor &owned);
  // Judge the longest of all ranks; all of them call this, after longest.
  void judge(double of_all);
  // Log how many calculations were above the threshold since the last call, where any were.
  void say_count();

 private:
  const std::string path;
  const double threshold;
  const bool stops;
  bool said = false;
  double mine = 0.0;                // longest of this rank in this calculation, ...
  LAMMPS_NS::tagint atom_of_it = 0;    // ... and its atom
  LAMMPS_NS::bigint n_seen = 0, n_above = 0;
};

}    // namespace mlff
