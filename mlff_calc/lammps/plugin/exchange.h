// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// Features of atoms cross between ranks here. A network calls three operators; whoever runs it says first who serves them.

#pragma once

#include "pointers.h"

#include <ATen/core/Tensor.h>

namespace LAMMPS_NS {
class Pair;
}

namespace mlff {

// What serves mlff::exchange, mlff::exchange_reverse and mlff::all_sum while a network runs.
class Engine {
 public:
  virtual ~Engine() noexcept(false) = default;    // LAMMPS's own base classes are declared so
  virtual at::Tensor exchange(const at::Tensor &features, int64_t n_nodes) = 0;
  virtual at::Tensor exchange_reverse(const at::Tensor &gradient, int64_t n_local) = 0;
  virtual at::Tensor all_sum(const at::Tensor &values) = 0;
};

// Makes an engine the one that serves the calls of this thread, for as long as the object lives.
class CurrentEngine {
 public:
  explicit CurrentEngine(Engine *engine);
  ~CurrentEngine();
  CurrentEngine(const CurrentEngine &) = delete;
  CurrentEngine &operator=(const CurrentEngine &) = delete;

 private:
  Engine *before;
};

// Tell PyTorch of the operators; where Python has defined them in this process, only the kernels are added.
void register_operators();

// LAMMPS's ghost atoms: rows 0..n_atoms-1 are atoms of this rank, then padding, then ghosts in LAMMPS's order.
class GhostExchange : public Engine, protected LAMMPS_NS::Pointers {
 public:

  GhostExchange(LAMMPS_NS::LAMMPS *lammps, LAMMPS_NS::Pair *pair) : Pointers(lammps), pair(pair) {}
  // is_copy: every neighbour is a row of this rank, nothing crosses. Otherwise the ghosts start at row first_ghost.
  void set_rows(bool is_copy, int64_t first_ghost);
  // Doubles of one atom in one message, for features of so many numbers; wider ones go in several messages.
  int set_width(int n_numbers, const std::string &dtype);

  at::Tensor exchange(const at::Tensor &features, int64_t n_nodes) override;
  at::Tensor exchange_reverse(const at::Tensor &gradient, int64_t n_local) override;
  at::Tensor all_sum(const at::Tensor &values) override;


  // LAMMPS calls these through the pair style.
  int pack_forward(int n, const int *list, double *buffer);
  void unpack_forward(int n, int first, const double *buffer);
  int pack_reverse(int n, int first, double *buffer);
  void unpack_reverse(int n, const int *list, const double *buffer);

 private:
  char *at_row(int index) const;
  void for_chunks(const at::Tensor &rows, bool forward);
  template <typename Number> void add(int n, const int *list, const double *buffer);

  LAMMPS_NS::Pair *pair;
  bool is_copy = true;
  int64_t first_ghost = 0;
  // What crosses at the moment: the bytes first..first+count-1 of every row.
  char *data = nullptr;
  size_t row_bytes = 0, first_byte = 0, count = 0;
  int doubles = 0, max_doubles = 1;
  bool is_float = false;
};

}    // namespace mlff
