// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "graph.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "neigh_list.h"
#include "neighbor.h"

#include <ATen/Functions.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <unordered_map>

using LAMMPS_NS::NeighList;

namespace mlff {

GraphBuilder::GraphBuilder(LAMMPS_NS::LAMMPS *lammps, Layout layout, double cutoff, int n_layers, std::vector<int> numbers,
                           int padding) :
    Pointers(lammps), layout(layout), cutoff(cutoff), n_layers(n_layers), numbers(std::move(numbers)),
    padding_number(padding), exclusions(lammps, this->numbers)
{
}

Graph GraphBuilder::build(const NeighList *list)
{
  const bool new_list = neighbor->ago == 0 || static_cast<int>(owners.size()) != atom->nghost;
  if (neighbor->ago == 0) exclusions.update();    // in step on all ranks, as the lists are
  if (layout == Layout::fold && new_list) find_owners();
  const auto with_edges = find_centres(list);
  n_local = layout == Layout::ghosts ? atom->nlocal + atom->nghost : atom->nlocal;
  add_edges(list, with_edges);
  // Networks take at least two atoms and two edges; a rank without atoms has to take part in every exchange.
  pad(n_local < 2 || centres.size() < 2);
  add_nodes();
  return tensors();
}

int64_t GraphBuilder::row(int index) const
{
  if (index < atom->nlocal || layout == Layout::ghosts) return index;
  if (layout == Layout::fold) return owners[index - atom->nlocal];
  return n_local + (index - atom->nlocal);
}

bool GraphBuilder::sees(int index) const
{
  return numbers[atom->type[index]] != 0 && !exclusions.hides(index);
}

// The atoms that ghosts are images of, by tag: no atom map is asked of the user.
void GraphBuilder::find_owners()
{
  std::unordered_map<LAMMPS_NS::tagint, int> by_tag;
  by_tag.reserve(atom->nlocal);
  for (int i = 0; i < atom->nlocal; i++) by_tag.emplace(atom->tag[i], i);
  owners.resize(atom->nghost);
  for (int k = 0; k < atom->nghost; k++) {
    const auto found = by_tag.find(atom->tag[atom->nlocal + k]);
    if (found == by_tag.end()) error->one(FLERR, "pair mlff: ghost atom {} has no owner", atom->tag[atom->nlocal + k]);
    owners[k] = found->second;
  }
}

// Atoms that receive messages, in ascending order: this rank's own, and in Layout::ghosts whatever these see through layers.
std::vector<int> GraphBuilder::find_centres(const NeighList *list) const
{
  std::vector<int> found(list->ilist, list->ilist + list->inum);
  if (layout == Layout::ghosts) {
    std::vector<bool> seen(atom->nlocal + atom->nghost, false);
    for (int i : found) seen[i] = true;
    size_t begin = 0;
    for (int hop = 1; hop < n_layers; hop++) {
      const size_t end = found.size();
      for (size_t k = begin; k < end; k++) {
        const int i = found[k];
        for (int n = 0; n < list->numneigh[i]; n++) {
          const int j = list->firstneigh[i][n] & NEIGHMASK;
          if (seen[j]) continue;
          const double *a = atom->x[i], *b = atom->x[j];
          const double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
          if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= cutoff * cutoff) continue;
          seen[j] = true;
          found.push_back(j);
        }
      }
      begin = end;
    }
  }
  if (!std::is_sorted(found.begin(), found.end())) std::sort(found.begin(), found.end());
  return found;
}

void GraphBuilder::add_edges(const NeighList *list, const std::vector<int> &of)
{
  const double cutoff_squared = cutoff * cutoff;
  centres.clear();
  neighbours.clear();
  vectors.clear();
  for (int i : of) {
    const double *here = atom->x[i];
    const int *list_of_i = list->firstneigh[i];
    for (int n = 0; n < list->numneigh[i]; n++) {
      const int j = list_of_i[n] & NEIGHMASK;
      const double *there = atom->x[j];
      const double d[3] = {there[0] - here[0], there[1] - here[1], there[2] - here[2]};
      if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= cutoff_squared) continue;
      centres.push_back(i);
      neighbours.push_back(j);    // rows are known when the padding is
      vectors.insert(vectors.end(), d, d + 3);
    }
  }
}

// Two atoms that count for nothing, with edges too long to act.
void GraphBuilder::pad(bool wanted)
{
  if (wanted) n_local += 2;
  for (auto &j : neighbours) j = row(static_cast<int>(j));
  if (!wanted) return;
  for (int sign : {1, -1}) {
    centres.push_back(n_local - (sign > 0 ? 2 : 1));
    neighbours.push_back(n_local - (sign > 0 ? 1 : 2));
    vectors.insert(vectors.end(), {2.0 * cutoff * sign, 0.0, 0.0});
  }
}

void GraphBuilder::add_nodes()
{
  n_nodes = layout == Layout::exchange ? n_local + atom->nghost : n_local;
  nodes.assign(n_nodes, padding_number);
  owned.assign(n_local, 0.0);
  systems.assign(n_local, 0);
  const int n_known = layout == Layout::fold ? atom->nlocal : atom->nlocal + atom->nghost;
  for (int k = 0; k < n_known; k++) {
    if (!sees(k)) continue;
    nodes[row(k)] = numbers[atom->type[k]];
    if (k < atom->nlocal) owned[k] = 1.0;
  }
}

Graph GraphBuilder::tensors()
{
  Graph graph;
  const auto n_edges = static_cast<int64_t>(centres.size());
  edge_index.resize(2 * n_edges);
  std::copy(centres.begin(), centres.end(), edge_index.begin());
  std::copy(neighbours.begin(), neighbours.end(), edge_index.begin() + n_edges);
  graph.n_local = n_local;
  graph.n_nodes = n_nodes;
  graph.n_edges = n_edges;
  graph.has_ghosts = layout != Layout::fold;
  graph.first_ghost = layout == Layout::exchange ? n_local : atom->nlocal;
  graph.tensors = {{"atomic_numbers", at::from_blob(nodes.data(), {n_local}, at::kLong)},
                   {"node_numbers", at::from_blob(nodes.data(), {n_nodes}, at::kLong)},
                   {"system_index", at::from_blob(systems.data(), {n_local}, at::kLong)},
                   {"edge_index", at::from_blob(edge_index.data(), {2, n_edges}, at::kLong)},
                   {"edge_vec", at::from_blob(vectors.data(), {n_edges, 3}, at::kDouble)},
                   {"cell", at::zeros({1, 3, 3}, at::kDouble)},
                   {"owned", at::from_blob(owned.data(), {n_local}, at::kDouble)}};
  return graph;
}

}    // namespace mlff
