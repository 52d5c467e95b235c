// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// A file written by `mlff export --to lammps`: what it says of itself, and the network behind one of two backends.

#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mlff {

// How a fixed point is to be found; see the docstring of the exporter.
struct FixedPointFacts {
  int n_forward = 0, n_adjoint = 0;    // evaluations of f and of its adjoint in one call
  int slots = 0, width = 0;            // an atom's memory
  double tolerance = 0, cold_tolerance = 0, fit_ridge = 0, ridge = 0;
  int max_repeats = 0;
  bool shadow = false;                 // fields follow the atoms, and are solved only where a history begins
  // The policy of warm starts; these values are those of files of format version 2, which have none.
  double reach = 0.5;        // Angstrom; from farther away a memory says nothing
  double factor = 0.9;       // a solve goes on as long as its least residual falls to this share ...
  int warm_patience = 1;     // ... within so many calls where a cold start is still to come,
  int cold_patience = 5;     // ... and within so many where there is nothing else
};

struct Facts {
  std::string path, backend, dtype, device;
  double cutoff = 0;
  int n_layers = 0, exchange_width = 0;
  std::string torch;                      // the version that wrote the file
  std::map<std::string, int> elements;    // atomic number by symbol
  std::string symbols;                    // "H C O", for messages
  std::vector<std::string> inputs, outputs;
  std::optional<FixedPointFacts> fixed_point;
  std::optional<double> threshold;        // eV/Angstrom; spread of a force above which the potential is not to be trusted
  bool gives_spreads = false;             // false for files with a threshold that an earlier version wrote, too
};

// Version of the PyTorch that is loaded, as "2.13.0".
std::string torch_version();

// CUDA devices that PyTorch sees.
int n_cuda_devices();

// What an exception says, without the traces that PyTorch adds.
std::string first_words(const std::exception &failure);

class Model {
 public:
  // Throws std::runtime_error with a message for the user: no such file, not one of ours, too new, for another engine.
  explicit Model(const std::string &path, const std::string &device);
  ~Model();

  const Facts &facts() const { return about; }
  // Outputs by name, on the CPU, for inputs by name. Throws std::runtime_error where they do not keep the contract.
  std::map<std::string, at::Tensor> operator()(const std::map<std::string, at::Tensor> &inputs) const;

 private:
  class Backend;
  class TorchScript;
  class Compiled;
  void check(const std::map<std::string, at::Tensor> &outputs, const std::map<std::string, at::Tensor> &inputs) const;

  Facts about;
  at::Device device;
  std::unique_ptr<Backend> backend;
};

}    // namespace mlff
