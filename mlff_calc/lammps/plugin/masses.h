// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// Does the mass of an atom type fit the element that it stands for?

#pragma once

#include <string>

namespace mlff {

enum class MassKind { fits, isotope, contradicts };

struct MassVerdict {
  MassKind kind;
  std::string words;    // what to say of it, empty where it fits
};

// mass: of an atom type, atomic mass units. number: atomic number of its element, from 1.
MassVerdict judge_mass(int type, double mass, int number, const std::string &symbol);

}    // namespace mlff
