// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// What neigh_modify exclude leaves out. An atom that is excluded from all others (fix gcmc and fix widom make such atoms)
// counts as absent; exclusions among atoms that the potential does not see change nothing; all others are refused.

#pragma once

#include "pointers.h"

#include <cstdint>
#include <vector>

namespace mlff {

class Exclusions : protected LAMMPS_NS::Pointers {
 public:
  // numbers: atomic number by atom type (from 1), 0 for types that this pair style leaves to others.
  Exclusions(LAMMPS_NS::LAMMPS *lammps, const std::vector<int> &numbers) : Pointers(lammps), numbers(numbers) {}

  // After every new list, on all ranks: which atoms and ghosts are absent. Stops LAMMPS where pairs are lacking.
  void update();
  bool hides(int i) const { return !hidden.empty() && hidden[i]; }

 private:
  // The rules whose first set an atom belongs to, and those whose second set, as bits.
  struct Sides {
    uint64_t first = 0, second = 0, n_atoms = 0;
    bool excludes(const Sides &other) const { return (first & other.second) || (second & other.first); }
    // Whether an atom with these sides has no pair with any atom of the other sides. That is so where a rule excludes such
    // pairs. It is also so where both are the same sides and one atom alone has them: there is no second atom to pair with.
    // The latter is needed for fix gcmc. It excludes its own group from group all and takes the atom that it hides out of
    // group all, so that its rule does not exclude this atom's sides from themselves.
    bool lacks(const Sides &other) const { return excludes(other) || (*this == other && n_atoms == 1); }
    bool operator==(const Sides &other) const { return first == other.first && second == other.second; }
  };

  Sides sides(int i) const;
  std::vector<Sides> kinds_of_all_ranks() const;
  void check_molecules() const;

  const std::vector<int> numbers;
  std::vector<char> hidden;    // by index of atom or ghost; empty where there are no exclusions
};

}    // namespace mlff
