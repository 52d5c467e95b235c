// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// From LAMMPS's atoms and neighbour list to the tensors a network reads. Edges are computed in double precision.

#pragma once

#include "exclusions.h"

#include "pointers.h"

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace mlff {

enum class Layout {
  fold,        // one rank: an edge to a ghost is an edge to the atom it is an image of
  exchange,    // several ranks: ghosts are nodes without edges of their own, their features come from their owners
  ghosts       // ghosts within layers x cutoff are nodes with edges of their own; nothing is exchanged
};

// Inputs of the network. Tensors point into the builder's memory and live until its next call.
struct Graph {
  std::map<std::string, at::Tensor> tensors;
  int64_t n_local = 0, n_nodes = 0, n_edges = 0;
  bool has_ghosts = false;    // are ghosts nodes? Then LAMMPS's first one is in row first_ghost
  int64_t first_ghost = 0;
};

class GraphBuilder : protected LAMMPS_NS::Pointers {
 public:
  // numbers: atomic number by atom type (from 1), 0 for types that this pair style leaves to others.
  GraphBuilder(LAMMPS_NS::LAMMPS *lammps, Layout layout, double cutoff, int n_layers, std::vector<int> numbers, int padding);
  Graph build(const LAMMPS_NS::NeighList *list);
  int64_t row(int index) const;    // of an atom or ghost, by its index in LAMMPS
  bool sees(int index) const;      // false for atoms of other pair styles, and for excluded ones

 private:
  void find_owners();
  std::vector<int> find_centres(const LAMMPS_NS::NeighList *list) const;
  void add_edges(const LAMMPS_NS::NeighList *list, const std::vector<int> &of);
  void pad(bool wanted);
  void add_nodes();
  Graph tensors();

  const Layout layout;
  const double cutoff;
  const int n_layers;
  const std::vector<int> numbers;
  const int padding_number;
  Exclusions exclusions;

  int64_t n_local = 0, n_nodes = 0;
  std::vector<int> owners;    // local index by ghost, for Layout::fold
  std::vector<int64_t> centres, neighbours, edge_index, nodes, systems;
  std::vector<double> vectors, owned;
};

}    // namespace mlff
