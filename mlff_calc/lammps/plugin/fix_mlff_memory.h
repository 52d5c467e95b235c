// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// What a fixed-point potential remembers of every atom, as data of that atom: it goes where the atom goes. In restart files it
// is data of the fix, by atom ID: LAMMPS's replicate refuses files with data of atoms that it does not know. The pair style
// makes this fix; users do not.

#pragma once

#include "fix.h"

#include <cstdint>
#include <vector>

namespace mlff {

class FixMLFFMemory : public LAMMPS_NS::Fix {
 public:
  // arguments: ID group mlff/memory SLOTS WIDTH BYTES, the last one the size of a number (4 or 8)
  FixMLFFMemory(LAMMPS_NS::LAMMPS *lammps, int narg, char **arg);
  ~FixMLFFMemory() override;

  char *memory(int n_atoms);                   // of the first n_atoms atoms, one after the other
  size_t bytes_of_atom() const { return bytes; }
  bool is_known(int i) const;                  // false for atoms that are new
  double moved(int i) const;                   // distance from where the atom was when it was last remembered, Angstrom
  void remember(int n_atoms, const char *memory);
  void forget(int i);

  int setmask() override { return 0; }
  void copy_arrays(int from, int to, int) override;
  void set_arrays(int i) override;
  int pack_exchange(int i, double *buffer) override;
  int unpack_exchange(int i, double *buffer) override;
  void write_restart(FILE *file) override;
  void restart(char *data) override;
  double memory_usage() override;

 private:
  struct Mark {
    double known = 0.0, position[3] = {0.0, 0.0, 0.0};
  };
  static constexpr int n_marks = sizeof(Mark) / sizeof(double);

  struct Head {
    int64_t bytes_of_atom = 0, n_rows = 0;
  };

  void need(int n_atoms);
  std::vector<double> rows() const;
  int pack(int i, double *buffer) const;

  size_t bytes;       // of an atom's memory
  int doubles;        // the same, rounded up
  std::vector<char> memories;
  std::vector<Mark> marks;
};

}    // namespace mlff
