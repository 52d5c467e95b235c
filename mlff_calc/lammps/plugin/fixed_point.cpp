// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "fixed_point.h"

#include "fix_mlff_memory.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "update.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace mlff {

static const double not_moved = 1e-9;       // Angstrom; wrapping back into the box changes the last digits
static const int same_again = 3;            // mode of shadow dynamics for the structure of the last step
static const size_t judged_after = 2;       // calls that are made before progress is judged at all

FixedPointStep::FixedPointStep(LAMMPS_NS::LAMMPS *lammps, const Facts &about, double tolerance, bool always_cold) :
    Pointers(lammps), facts(*about.fixed_point), dtype(about.dtype == "float32" ? at::kFloat : at::kDouble),
    path(about.path), always_cold(always_cold), warm_tolerance(tolerance > 0 ? tolerance : facts.tolerance),
    cold_tolerance(tolerance > 0 ? tolerance : facts.cold_tolerance)
{
}

std::map<std::string, at::Tensor> FixedPointStep::run(const Model &model, const Graph &graph, FixMLFFMemory &memory)
{
  const int n_atoms = atom->nlocal;
  auto inputs = graph.tensors;
  auto remembered = at::zeros({graph.n_local, facts.slots, facts.width}, dtype);
  const auto *seen = graph.tensors.at("owned").const_data_ptr<double>();
  const auto mode = find_mode(memory, seen);
  if (n_atoms && mode != cold) memcpy(remembered.mutable_data_ptr(), memory.memory(n_atoms), n_atoms * memory.bytes_of_atom());
  for (int i = 0; i < n_atoms; i++)
    if (seen[i] == 0.0 && mode != cold)
      memset(static_cast<char *>(remembered.mutable_data_ptr()) + i * memory.bytes_of_atom(), 0, memory.bytes_of_atom());
  inputs["memory"] = remembered;

  n_calls = 0;
  std::map<std::string, at::Tensor> outputs;
  bool found = solve(mode, model, inputs, outputs);
  if (!found && mode != cold) found = solve(cold, model, inputs, outputs);
  if (!found)
    error->all(FLERR,
               "pair mlff: no fixed point in step {} after {} calls: residuals {:.3g} and {:.3g}, tolerance "
               "{:.3g}. Atoms may be too close or unlike those that {} was trained on; see the last steps",
               update->ntimestep, n_calls, residual, adjoint_residual, cold_tolerance, path);
  memory.remember(n_atoms, static_cast<const char *>(outputs.at("memory").const_data_ptr()));
  for (int i = 0; i < n_atoms; i++)
    if (seen[i] == 0.0) memory.forget(i);    // an atom that comes back begins cold
  return outputs;
}

// Where to begin, by the atom of all ranks that fits its memory worst.
FixedPointStep::Mode FixedPointStep::find_mode(const FixMLFFMemory &memory, const double *seen) const
{
  int mine = go_on;
  for (int i = 0; i < atom->nlocal && mine != cold; i++) {
    if (seen[i] == 0.0) continue;    // of another pair style, or absent: it has no memory
    const double moved = memory.is_known(i) ? memory.moved(i) : 2.0 * facts.reach;
    if (moved > not_moved) mine = predict;
    if (!(moved <= facts.reach)) mine = cold;
  }
  int worst = always_cold ? cold : mine;    // the worst is the smallest
  MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MIN, world);
  return static_cast<Mode>(worst);
}

// Call the network until the residuals are below the tolerance; false where they no longer fall.
bool FixedPointStep::solve(Mode mode, const Model &model, std::map<std::string, at::Tensor> inputs,
                           std::map<std::string, at::Tensor> &outputs)
{
  const double tolerance = mode == cold ? cold_tolerance : warm_tolerance;
  if (mode == cold) n_cold++;
  const size_t patience = std::max(1, mode == cold ? facts.cold_patience : facts.warm_patience);
  std::vector<double> known;
  for (int call = 0; call <= facts.max_repeats; call++) {
    const int how = call ? go_on : (facts.shadow && mode == go_on ? same_again : mode);
    inputs["control"] = at::tensor({static_cast<double>(how), facts.fit_ridge, facts.ridge, tolerance}, at::kDouble);
    outputs = model(inputs);
    n_calls++;
    const double now = read_residuals(outputs);
    if (now <= tolerance) return true;
    if (std::isnan(now)) return false;
    known.push_back(now);
    if (known.size() > std::max(judged_after, patience)) {
      const auto middle = known.end() - patience;
      if (!(*std::min_element(middle, known.end()) < facts.factor * *std::min_element(known.begin(), middle))) return false;
    }
    inputs["memory"] = outputs.at("memory");
  }
  return false;
}

// The larger one of the two, as rank 0 has it: all ranks go on, or none.
double FixedPointStep::read_residuals(const std::map<std::string, at::Tensor> &outputs)
{
  double both[2];
  std::copy_n(outputs.at("residuals").const_data_ptr<double>(), 2, both);
  MPI_Bcast(both, 2, MPI_DOUBLE, 0, world);
  residual = both[0];
  adjoint_residual = both[1];
  return both[0] >= both[1] ? both[0] : (both[1] > both[0] ? both[1] : NAN);
}

}    // namespace mlff
