// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "fix_mlff_memory.h"

#include "atom.h"
#include "domain.h"
#include "error.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using LAMMPS_NS::Atom;
namespace utils = LAMMPS_NS::utils;

namespace mlff {

FixMLFFMemory::FixMLFFMemory(LAMMPS_NS::LAMMPS *lammps, int narg, char **arg) : Fix(lammps, narg, arg)
{
  if (narg != 6) error->all(FLERR, "fix mlff/memory is made by pair style mlff, not by input files");
  const int slots = utils::inumeric(FLERR, arg[3], false, lmp), width = utils::inumeric(FLERR, arg[4], false, lmp);
  const int size = utils::inumeric(FLERR, arg[5], false, lmp);
  if (slots < 1 || width < 1 || (size != 4 && size != 8)) error->all(FLERR, "fix mlff/memory: sizes out of range");
  bytes = static_cast<size_t>(slots) * width * size;
  doubles = static_cast<int>((bytes + sizeof(double) - 1) / sizeof(double));
  restart_peratom = 1;
  create_attribute = 1;    // so that new atoms begin without a memory
  maxexchange = n_marks + doubles;
  atom->add_callback(Atom::GROW);
  atom->add_callback(Atom::RESTART);
}

FixMLFFMemory::~FixMLFFMemory()
{
  atom->delete_callback(id, Atom::GROW);
  atom->delete_callback(id, Atom::RESTART);
}

// LAMMPS asks for room for tens of thousands of atoms at once; this takes what there are.
void FixMLFFMemory::need(int n_atoms)
{
  if (n_atoms <= static_cast<int>(marks.size())) return;
  const size_t rows = std::max<size_t>(n_atoms, marks.size() + marks.size() / 8);
  memories.reserve(rows * bytes);    // resize alone would take twice as much
  memories.resize(rows * bytes);
  marks.resize(rows);
}

char *FixMLFFMemory::memory(int n_atoms)
{
  need(n_atoms);
  return memories.data();
}

bool FixMLFFMemory::is_known(int i) const
{
  return i < static_cast<int>(marks.size()) && marks[i].known > 0.0;
}

double FixMLFFMemory::moved(int i) const
{
  const double *now = atom->x[i], *then = marks[i].position;
  double d[3] = {now[0] - then[0], now[1] - then[1], now[2] - then[2]};
  domain->minimum_image_big(FLERR, d[0], d[1], d[2]);
  return std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
}

void FixMLFFMemory::remember(int n_atoms, const char *memory)
{
  need(n_atoms);
  memcpy(memories.data(), memory, n_atoms * bytes);
  for (int i = 0; i < n_atoms; i++) {
    marks[i].known = 1.0;
    std::copy(atom->x[i], atom->x[i] + 3, marks[i].position);
  }
}

void FixMLFFMemory::forget(int i)
{
  need(i + 1);
  marks[i].known = 0.0;
}

void FixMLFFMemory::set_arrays(int i)
{
  forget(i);
}

void FixMLFFMemory::copy_arrays(int from, int to, int)
{
  need(std::max(from, to) + 1);
  marks[to] = marks[from];
  memmove(memories.data() + to * bytes, memories.data() + from * bytes, bytes);
}

// The mark, and the memory where there is one.
int FixMLFFMemory::pack(int i, double *buffer) const
{
  if (!is_known(i)) {
    buffer[0] = 0.0;
    return 1;
  }
  memcpy(buffer, &marks[i], sizeof(Mark));
  memcpy(buffer + n_marks, memories.data() + i * bytes, bytes);
  return n_marks + doubles;
}

int FixMLFFMemory::pack_exchange(int i, double *buffer)
{
  return pack(i, buffer);
}

int FixMLFFMemory::unpack_exchange(int i, double *buffer)
{
  forget(i);
  if (buffer[0] == 0.0) return 1;
  memcpy(static_cast<void *>(&marks[i]), buffer, sizeof(Mark));
  memcpy(memories.data() + i * bytes, buffer + n_marks, bytes);
  return n_marks + doubles;
}

int FixMLFFMemory::pack_restart(int i, double *buffer)
{
  buffer[0] = 1 + pack(i, buffer + 1);    // LAMMPS finds the next fix's data by this number
  return static_cast<int>(buffer[0]);
}

void FixMLFFMemory::unpack_restart(int i, int nth)
{
  double *extra = atom->extra[i];
  int at = 0;
  for (int k = 0; k < nth; k++) at += static_cast<int>(extra[at]);
  forget(i);
  if (static_cast<int>(extra[at]) == 1 + n_marks + doubles) unpack_exchange(i, extra + at + 1);
}

int FixMLFFMemory::size_restart(int i)
{
  return is_known(i) ? 1 + n_marks + doubles : 2;
}

int FixMLFFMemory::maxsize_restart()
{
  return 1 + n_marks + doubles;
}

double FixMLFFMemory::memory_usage()
{
  return static_cast<double>(memories.capacity() + marks.capacity() * sizeof(Mark));
}

}    // namespace mlff
