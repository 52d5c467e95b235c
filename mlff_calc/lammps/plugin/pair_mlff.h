// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
//   pair_style mlff [ghosts] [tolerance X] [reset yes|no] [device cpu|cuda] [domain warn|stop|off]
//   pair_coeff * * file.pt El1 El2 ...
//
// Energies, forces and virials of an exported potential. compute pair: evaluations of f and of its adjoint in this step,
// their residuals, and cold starts so far (fixed-point potentials; zeros for others).

#pragma once

#include "exchange.h"
#include "fixed_point.h"
#include "graph.h"
#include "model.h"
#include "spread_watch.h"

#include "pair.h"

#include <functional>
#include <memory>

namespace mlff {

class FixMLFFMemory;

class PairMLFF : public LAMMPS_NS::Pair {
 public:
  explicit PairMLFF(LAMMPS_NS::LAMMPS *lammps);
  ~PairMLFF() override;

  void settings(int narg, char **arg) override;
  void coeff(int narg, char **arg) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void compute(int eflag, int vflag) override;
  void finish() override;

  int pack_forward_comm(int n, int *list, double *buffer, int, int *) override;
  void unpack_forward_comm(int n, int first, double *buffer) override;
  int pack_reverse_comm(int n, int first, double *buffer) override;
  void unpack_reverse_comm(int n, int *list, double *buffer) override;

 private:
  using Outputs = std::map<std::string, at::Tensor>;

  void allocate();
  void forget();
  void check_versions();
  int own_device();
  void check_engine();
  void check_masses();
  void on_all_ranks(const std::function<void()> &work);
  std::vector<int> find_numbers(const char *file);
  void make_memory();
  void drop_memory();
  FixMLFFMemory &find_memory();
  Outputs run(const Graph &graph);
  void make_watch();
  void judge(const Outputs &outputs, const Graph &graph);
  void add(const Outputs &outputs, const Graph &graph);
  void publish();

  bool wants_ghosts = false, always_cold = false, masses_are_checked = false;
  double tolerance = 0.0;
  std::string device = "cpu", domain_action = "warn", memory_id;
  std::vector<int> numbers;    // atomic number by atom type, 0 where another style is meant
  std::unique_ptr<Model> model;
  std::unique_ptr<GraphBuilder> builder;
  std::unique_ptr<FixedPointStep> step;
  std::unique_ptr<SpreadWatch> watch;    // none where the file has no threshold, or nobody asks
  GhostExchange ghosts;
};

}    // namespace mlff
