// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "exclusions.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "neighbor.h"

#include <algorithm>

namespace mlff {

static const char *const whole_atoms =
    "it only knows atoms that are excluded from all others, and exclusions among NULL types; hold atoms by fix setforce instead";

Exclusions::Sides Exclusions::sides(int i) const
{
  Sides found;
  int rule = 0;
  for (int k = 0; k < neighbor->nex_type; k++, rule++) {
    if (atom->type[i] == neighbor->ex1_type[k]) found.first |= uint64_t(1) << rule;
    if (atom->type[i] == neighbor->ex2_type[k]) found.second |= uint64_t(1) << rule;
  }
  for (int k = 0; k < neighbor->nex_group; k++, rule++) {
    if (atom->mask[i] & neighbor->ex1_bit[k]) found.first |= uint64_t(1) << rule;
    if (atom->mask[i] & neighbor->ex2_bit[k]) found.second |= uint64_t(1) << rule;
  }
  return found;
}

// Every combination of sides that atoms of this potential have, and the number of these atoms on all ranks.
std::vector<Exclusions::Sides> Exclusions::kinds_of_all_ranks() const
{
  std::vector<Sides> mine;
  for (int i = 0; i < atom->nlocal; i++) {
    if (numbers[atom->type[i]] == 0) continue;
    const auto found = sides(i);
    auto known = std::find(mine.begin(), mine.end(), found);
    if (known == mine.end()) known = mine.insert(known, found);
    known->n_atoms++;
  }
  int count = static_cast<int>(3 * mine.size());
  std::vector<int> counts(comm->nprocs), starts(comm->nprocs, 0);
  MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  for (int rank = 1; rank < comm->nprocs; rank++) starts[rank] = starts[rank - 1] + counts[rank - 1];
  std::vector<Sides> all((starts.back() + counts.back()) / 3), merged;
  MPI_Allgatherv(mine.data(), count, MPI_UINT64_T, all.data(), counts.data(), starts.data(), MPI_UINT64_T, world);
  for (const auto &one : all) {
    const auto known = std::find(merged.begin(), merged.end(), one);
    if (known == merged.end())
      merged.push_back(one);
    else
      known->n_atoms += one.n_atoms;
  }
  return merged;
}

void Exclusions::check_molecules() const
{
  int seen = 0;
  for (int k = 0; k < neighbor->nex_mol; k++)
    for (int i = 0; i < atom->nlocal && !seen; i++)
      seen = (atom->mask[i] & neighbor->ex_mol_bit[k]) && numbers[atom->type[i]] != 0;
  MPI_Allreduce(MPI_IN_PLACE, &seen, 1, MPI_INT, MPI_MAX, world);
  if (seen) error->all(FLERR, "pair mlff would not see pairs that neigh_modify exclude molecule leaves out: {}", whole_atoms);
}

void Exclusions::update()
{
  hidden.clear();
  if (!neighbor->exclude) return;
  if (neighbor->nex_type + neighbor->nex_group > 64)
    error->all(FLERR, "pair mlff takes at most 64 neigh_modify exclude rules of types and groups, and there are {}",
               neighbor->nex_type + neighbor->nex_group);
  check_molecules();
  const auto kinds = kinds_of_all_ranks();
  const auto is_absent = [&](const Sides &one) {
    return std::all_of(kinds.begin(), kinds.end(), [&](const Sides &other) { return one.lacks(other); });
  };
  std::vector<Sides> present;
  for (const auto &one : kinds)
    if (!is_absent(one)) present.push_back(one);
  for (const auto &one : present)
    for (const auto &other : present)
      if (one.excludes(other))
        error->all(FLERR, "pair mlff would not see pairs that neigh_modify exclude leaves out: {}", whole_atoms);
  const int n = atom->nlocal + atom->nghost;
  hidden.assign(n, 0);
  for (int i = 0; i < n; i++)
    if (numbers[atom->type[i]] != 0) hidden[i] = std::find(present.begin(), present.end(), sides(i)) == present.end();
}

}    // namespace mlff
