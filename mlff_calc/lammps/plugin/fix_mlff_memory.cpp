// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "fix_mlff_memory.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

using LAMMPS_NS::Atom;
namespace utils = LAMMPS_NS::utils;

namespace mlff {

static const int64_t largest_in_restart = int64_t(1) << 30;    // bytes; every rank reads all of it

FixMLFFMemory::FixMLFFMemory(LAMMPS_NS::LAMMPS *lammps, int narg, char **arg) : Fix(lammps, narg, arg)
{
  if (narg != 6) error->all(FLERR, "fix mlff/memory is made by pair style mlff, not by input files");
  const int slots = utils::inumeric(FLERR, arg[3], false, lmp), width = utils::inumeric(FLERR, arg[4], false, lmp);
  const int size = utils::inumeric(FLERR, arg[5], false, lmp);
  if (slots < 1 || width < 1 || (size != 4 && size != 8)) error->all(FLERR, "fix mlff/memory: sizes out of range");
  bytes = static_cast<size_t>(slots) * width * size;
  doubles = static_cast<int>((bytes + sizeof(double) - 1) / sizeof(double));
  restart_global = 1;
  create_attribute = 1;    // so that new atoms begin without a memory
  maxexchange = n_marks + doubles;
  atom->add_callback(Atom::GROW);
}

FixMLFFMemory::~FixMLFFMemory()
{
  atom->delete_callback(id, Atom::GROW);
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

// Of the known atoms of this rank: tag, mark and memory, one after the other.
std::vector<double> FixMLFFMemory::rows() const
{
  std::vector<double> found;
  const size_t width = 1 + n_marks + doubles;
  for (int i = 0; i < atom->nlocal; i++) {
    if (!is_known(i)) continue;
    found.resize(found.size() + width);
    double *row = found.data() + found.size() - width;
    row[0] = static_cast<double>(atom->tag[i]);
    pack(i, row + 1);
  }
  return found;
}

// LAMMPS calls this on all ranks; rank 0 writes. What is larger than the limit is left out, and the next run begins cold.
void FixMLFFMemory::write_restart(FILE *file)
{
  const auto mine = rows();
  const int64_t width = 1 + n_marks + doubles;
  int64_t total = static_cast<int64_t>(mine.size());
  MPI_Allreduce(MPI_IN_PLACE, &total, 1, MPI_INT64_T, MPI_SUM, world);
  const bool fits = total * static_cast<int64_t>(sizeof(double)) <= largest_in_restart;
  Head head;
  head.bytes_of_atom = static_cast<int64_t>(bytes);
  head.n_rows = fits ? total / width : 0;
  if (comm->me != 0) {
    if (fits) MPI_Send(mine.data(), static_cast<int>(mine.size()), MPI_DOUBLE, 0, 0, world);
    return;
  }
  if (!fits)
    error->warning(FLERR, "pair mlff: memories of fixed points are {} MB, too large for a restart file: runs from it begin cold",
                   total * sizeof(double) / 1000000);
  const int size = static_cast<int>(sizeof(Head) + head.n_rows * width * sizeof(double));
  fwrite(&size, sizeof(int), 1, file);
  fwrite(&head, sizeof(Head), 1, file);
  if (!fits) return;
  fwrite(mine.data(), sizeof(double), mine.size(), file);
  std::vector<double> theirs;
  for (int rank = 1; rank < comm->nprocs; rank++) {
    MPI_Status status;
    int count = 0;
    MPI_Probe(rank, 0, world, &status);
    MPI_Get_count(&status, MPI_DOUBLE, &count);
    theirs.resize(count);
    MPI_Recv(theirs.data(), count, MPI_DOUBLE, rank, 0, world, MPI_STATUS_IGNORE);
    fwrite(theirs.data(), sizeof(double), theirs.size(), file);
  }
}

// Every rank has all of it and takes the rows of its own atoms. Atoms that are not in it (copies that replicate made) stay new.
void FixMLFFMemory::restart(char *data)
{
  Head head;
  memcpy(&head, data, sizeof(Head));
  if (head.bytes_of_atom != static_cast<int64_t>(bytes)) return;
  const size_t width = (1 + n_marks + doubles) * sizeof(double);
  std::unordered_map<LAMMPS_NS::tagint, int> own;
  for (int i = 0; i < atom->nlocal; i++) own.emplace(atom->tag[i], i);
  std::vector<double> row(1 + n_marks + doubles);
  for (int64_t k = 0; k < head.n_rows; k++) {
    memcpy(row.data(), data + sizeof(Head) + k * width, width);
    const auto found = own.find(static_cast<LAMMPS_NS::tagint>(row[0]));
    if (found != own.end()) unpack_exchange(found->second, row.data() + 1);
  }
}

double FixMLFFMemory::memory_usage()
{
  return static_cast<double>(memories.capacity() + marks.capacity() * sizeof(Mark));
}

}    // namespace mlff
