// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "exchange.h"

#include "atom.h"
#include "comm.h"
#include "pair.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>

namespace mlff {

static thread_local Engine *current = nullptr;

CurrentEngine::CurrentEngine(Engine *engine) : before(current)
{
  current = engine;
}

CurrentEngine::~CurrentEngine()
{
  current = before;
}

// --- the operators ---------------------------------------------------------------------------------------------------

static at::Tensor fresh_copy(const at::Tensor &values)
{
  return values.clone(at::MemoryFormat::Contiguous);
}

static at::Tensor copy_of_as_many_rows(const at::Tensor &features, int64_t n_rows)
{
  TORCH_CHECK(features.size(0) == n_rows, "mlff: ", n_rows, " rows are asked of ", features.size(0),
              " atoms, and no engine with ghost atoms is running");
  return fresh_copy(features);
}

static at::Tensor exchange(const at::Tensor &features, const at::Tensor &nodes)
{
  return current ? current->exchange(features, nodes.size(0)) : copy_of_as_many_rows(features, nodes.size(0));
}

static at::Tensor exchange_reverse(const at::Tensor &gradient, const at::Tensor &atoms)
{
  return current ? current->exchange_reverse(gradient, atoms.size(0)) : copy_of_as_many_rows(gradient, atoms.size(0));
}

static at::Tensor all_sum(const at::Tensor &values)
{
  return current ? current->all_sum(values) : fresh_copy(values);
}

void register_operators()
{
  // Never destroyed: LAMMPS may unload the styles, and the process goes on.
  static auto *library = new torch::Library(torch::Library::FRAGMENT, "mlff", std::nullopt, __FILE__, __LINE__);
  static bool done = false;
  if (done) return;
  done = true;
  const char *schemas[] = {"exchange(Tensor features, Tensor nodes) -> Tensor",
                           "exchange_reverse(Tensor gradient, Tensor atoms) -> Tensor",
                           "all_sum(Tensor values) -> Tensor"};
  const char *names[] = {"mlff::exchange", "mlff::exchange_reverse", "mlff::all_sum"};
  for (int i = 0; i < 3; i++)
    if (!c10::Dispatcher::singleton().findSchema({names[i], ""})) library->def(schemas[i]);
  for (auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) {
    library->impl("exchange", torch::dispatch(key, TORCH_FN(exchange)));
    library->impl("exchange_reverse", torch::dispatch(key, TORCH_FN(exchange_reverse)));
    library->impl("all_sum", torch::dispatch(key, TORCH_FN(all_sum)));
  }
}

// --- by LAMMPS's ghost atoms -----------------------------------------------------------------------------------------

void GhostExchange::set_rows(bool copy, int64_t first)
{
  is_copy = copy;
  first_ghost = first;
}

int GhostExchange::set_width(int n_numbers, const std::string &dtype)
{
  const int wanted = dtype == "float32" ? (n_numbers + 1) / 2 : n_numbers;
  max_doubles = std::clamp(wanted, 1, 1024);
  return max_doubles;
}

at::Tensor GhostExchange::exchange(const at::Tensor &features, int64_t n_nodes)
{
  if (is_copy) return copy_of_as_many_rows(features, n_nodes);
  auto shape = features.sizes().vec();
  shape[0] = n_nodes;
  auto rows = at::empty(shape, features.options().device(at::kCPU));
  rows.narrow(0, 0, features.size(0)).copy_(features);
  for_chunks(rows, true);
  return rows.to(features.device());
}

at::Tensor GhostExchange::exchange_reverse(const at::Tensor &gradient, int64_t n_local)
{
  if (is_copy) return copy_of_as_many_rows(gradient, n_local);
  auto rows = fresh_copy(gradient.to(at::kCPU));    // ghosts of ghosts are summed on the way
  for_chunks(rows, false);
  return rows.narrow(0, 0, n_local).to(gradient.device());
}

at::Tensor GhostExchange::all_sum(const at::Tensor &values)
{
  TORCH_CHECK(values.scalar_type() == at::kDouble, "mlff::all_sum takes float64");
  auto sums = fresh_copy(values.to(at::kCPU));
  if (comm->nprocs > 1)
    MPI_Allreduce(MPI_IN_PLACE, sums.mutable_data_ptr<double>(), static_cast<int>(sums.numel()), MPI_DOUBLE, MPI_SUM,
                  world);
  return sums.to(values.device());
}

void GhostExchange::for_chunks(const at::Tensor &rows, bool forward)
{
  TORCH_CHECK(forward || rows.is_floating_point(), "mlff::exchange_reverse takes floating-point numbers");
  data = static_cast<char *>(rows.mutable_data_ptr());
  is_float = rows.scalar_type() == at::kFloat;
  TORCH_CHECK(forward || is_float || rows.scalar_type() == at::kDouble, "mlff::exchange_reverse takes float32 or float64");
  row_bytes = rows.element_size();
  for (int64_t dim = 1; dim < rows.dim(); dim++) row_bytes *= rows.size(dim);
  for (first_byte = 0; first_byte < row_bytes; first_byte += count) {
    count = std::min(row_bytes - first_byte, max_doubles * sizeof(double));
    doubles = static_cast<int>((count + sizeof(double) - 1) / sizeof(double));    // two float32 to a double
    if (forward)
      comm->forward_comm(pair, doubles);
    else
      comm->reverse_comm(pair, doubles);
  }
  data = nullptr;
}

// The chunk of an atom by its index in LAMMPS.
char *GhostExchange::at_row(int index) const
{
  const int64_t row = index < atom->nlocal ? index : first_ghost + (index - atom->nlocal);
  return data + row * row_bytes + first_byte;
}

int GhostExchange::pack_forward(int n, const int *list, double *buffer)
{
  for (int i = 0; i < n; i++) memcpy(buffer + static_cast<size_t>(i) * doubles, at_row(list[i]), count);
  return n * doubles;
}

void GhostExchange::unpack_forward(int n, int first, const double *buffer)
{
  for (int i = 0; i < n; i++) memcpy(at_row(first + i), buffer + static_cast<size_t>(i) * doubles, count);
}

int GhostExchange::pack_reverse(int n, int first, double *buffer)
{
  for (int i = 0; i < n; i++) memcpy(buffer + static_cast<size_t>(i) * doubles, at_row(first + i), count);
  return n * doubles;
}

void GhostExchange::unpack_reverse(int n, const int *list, const double *buffer)
{
  if (is_float)
    add<float>(n, list, buffer);
  else
    add<double>(n, list, buffer);
}

template <typename Number> void GhostExchange::add(int n, const int *list, const double *buffer)
{
  for (int i = 0; i < n; i++) {
    auto *sum = reinterpret_cast<Number *>(at_row(list[i]));
    const auto *values = reinterpret_cast<const char *>(buffer + static_cast<size_t>(i) * doubles);
    for (size_t k = 0; k < count / sizeof(Number); k++) {
      Number value;
      memcpy(&value, values + k * sizeof(Number), sizeof(Number));
      sum[k] += value;
    }
  }
}

}    // namespace mlff
