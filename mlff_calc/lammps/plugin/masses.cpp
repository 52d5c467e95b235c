// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "masses.h"

#include "utils.h"
#include "fmt/format.h"

#include <cmath>
#include <vector>

namespace mlff {

// Standard atomic weights by atomic number (0: no element), rounded.
static const std::vector<double> weights = {
    1.000, 1.008, 4.003, 6.940, 9.012, 10.810, 12.011, 14.007, 15.999, 18.998, 20.180, 22.990, 24.305, 26.982, 28.085,
    30.974, 32.060, 35.450, 39.948, 39.098, 40.078, 44.956, 47.867, 50.941, 51.996, 54.938, 55.845, 58.933, 58.693,
    63.546, 65.380, 69.723, 72.630, 74.922, 78.971, 79.904, 83.798, 85.468, 87.620, 88.906, 91.224, 92.906, 95.950,
    97.907, 101.070, 102.906, 106.420, 107.868, 112.414, 114.818, 118.710, 121.760, 127.600, 126.904, 131.293,
    132.905, 137.327, 138.905, 140.116, 140.908, 144.242, 144.913, 150.360, 151.964, 157.250, 158.925, 162.500,
    164.930, 167.259, 168.934, 173.054, 174.967, 178.490, 180.948, 183.840, 186.207, 190.230, 192.217, 195.084,
    196.967, 200.592, 204.380, 207.200, 208.980, 208.982, 209.987, 222.018, 223.020, 226.025, 227.028, 232.038,
    231.036, 238.029, 237.048, 244.064, 243.061, 247.070, 247.070, 251.080, 252.083, 257.095, 258.098, 259.101,
    262.110, 267.122, 268.126, 271.134, 270.133, 269.134, 278.156, 281.165, 281.166, 285.177, 286.182, 289.190,
    289.194, 293.204, 293.208, 294.214};

static const double same = 0.02;    // atomic mass units; a weight written with two digits

MassVerdict judge_mass(int type, double mass, int number, const std::string &symbol)
{
  if (number < 1 || number >= static_cast<int>(weights.size())) return {MassKind::fits, ""};
  const double own = weights[number], off = std::fabs(mass - own);
  if (off <= same) return {MassKind::fits, ""};
  bool is_of_another = false;
  for (size_t other = 1; other < weights.size(); other++)
    if (std::fabs(mass - weights[other]) <= same) is_of_another = true;
  const auto facts = fmt::format("atom type {} has mass {:.6g}, and pair_coeff takes it for {} (mass {:.6g})", type, mass, symbol, own);
  if (!is_of_another && off <= std::fmax(0.1, 0.01 * own)) return {MassKind::fits, ""};
  const bool is_whole = std::fabs(mass - std::round(mass)) < 0.1;
  const bool is_heavy_hydrogen = number == 1 && (std::fabs(mass - 2.014) < same || std::fabs(mass - 3.016) < same);
  if (is_heavy_hydrogen || (!is_of_another && number > 1 && is_whole && off <= std::fmax(1.5, 0.04 * own)))
    return {MassKind::isotope, facts + ": taken as an isotope"};
  return {MassKind::contradicts,
          facts + ": are the elements in the order of the types? Forces are those of " + symbol +
              ", whatever the mass (repartitioned masses are meant so)"};
}

}    // namespace mlff
