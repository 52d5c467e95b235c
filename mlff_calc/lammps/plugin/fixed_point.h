// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// A step of a fixed-point potential: from the atoms' memories to outputs whose residuals are below the tolerance. All ranks
// take the same decisions.

#pragma once

#include "graph.h"
#include "model.h"

namespace mlff {

class FixMLFFMemory;

class FixedPointStep : protected LAMMPS_NS::Pointers {
 public:
  FixedPointStep(LAMMPS_NS::LAMMPS *lammps, const Facts &facts, double tolerance, bool always_cold);

  // Outputs of the network; the memories are those of this step afterwards. Stops LAMMPS where no fixed point is found.
  std::map<std::string, at::Tensor> run(const Model &model, const Graph &graph, FixMLFFMemory &memory);

  int n_calls = 0;                          // of the network in the last step
  double residual = 0, adjoint_residual = 0;
  int64_t n_cold = 0;                        // starts from nothing so far

 private:
  enum Mode { cold = 0, predict = 1, go_on = 2 };
  Mode find_mode(const FixMLFFMemory &memory, const double *seen) const;
  bool solve(Mode mode, const Model &model, std::map<std::string, at::Tensor> inputs,
             std::map<std::string, at::Tensor> &outputs);
  double read_residuals(const std::map<std::string, at::Tensor> &outputs);

  const FixedPointFacts facts;
  const at::ScalarType dtype;
  const std::string path;
  const bool always_cold;
  double warm_tolerance, cold_tolerance;
};

}    // namespace mlff
