// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "spread_watch.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "update.h"

#include <cmath>
#include <limits>

namespace mlff {

SpreadWatch::SpreadWatch(LAMMPS_NS::LAMMPS *lammps, std::string path, double threshold, bool stops) :
    Pointers(lammps), path(std::move(path)), threshold(threshold), stops(stops)
{
}

double SpreadWatch::longest(const at::Tensor &spreads, const at::Tensor &owned)
{
  const auto *s = spreads.const_data_ptr<double>(), *counts = owned.const_data_ptr<double>();
  double most = 0.0;
  for (int i = 0; i < atom->nlocal; i++) {
    if (counts[i] == 0.0) continue;    // of another pair style, or absent
    double square = s[3 * i] * s[3 * i] + s[3 * i + 1] * s[3 * i + 1] + s[3 * i + 2] * s[3 * i + 2];
    if (std::isnan(square)) square = std::numeric_limits<double>::infinity();
    if (square < most || (square == most && atom->tag[i] > atom_of_it)) continue;
    most = square;
    atom_of_it = atom->tag[i];
  }
  mine = std::sqrt(most);
  return mine;
}

void SpreadWatch::judge(double of_all)
{
  n_seen++;
  if (of_all <= threshold) return;
  n_above++;
  if (said && !stops) return;
  said = true;
  LAMMPS_NS::tagint tag = mine == of_all ? atom_of_it : MAXTAGINT;    // the first of several
  MPI_Allreduce(MPI_IN_PLACE, &tag, 1, MPI_LMP_TAGINT, MPI_MIN, world);
  const auto what = fmt::format(
      "pair mlff: step {} is outside of what {} was trained on: the spread of the force on atom {} is {:.3g} eV/Angstrom, and it "
      "was calibrated to be trusted up to {:.3g}. Energy and forces are a guess there; label such structures and train on them",
      update->ntimestep, path, tag, of_all, threshold);
  if (stops) error->all(FLERR, "{}", what);
  if (comm->me == 0) error->warning(FLERR, "{}. This is said once; the end of a run says how often it happened", what);
}

void SpreadWatch::say_count()
{
  if (n_above && comm->me == 0)
    LAMMPS_NS::utils::logmesg(lmp, "Note: pair mlff: the spread of a force was above {:.3g} eV/Angstrom, the threshold of {}, in {} of "
                                   "{} calculations\n", threshold, path, n_above, n_seen);
  n_seen = n_above = 0;
}

}    // namespace mlff
