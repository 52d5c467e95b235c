// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "model.h"

#include "json.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/InferenceMode.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>

using LAMMPS_NS::json;
using Tensors = std::vector<at::Tensor>;

namespace mlff {

static const int newest_format = 4;
static const char *const write_again = "write it again with: mlff export POTENTIAL --to lammps -o FILE";

// --- what the file says of itself -------------------------------------------------------------------------------------

static std::string read_record(const std::string &path)
{
  if (!std::ifstream(path)) throw std::runtime_error("there is no readable file " + path + "; check the path");
  try {
    caffe2::serialize::PyTorchStreamReader reader(path);
    const auto [data, size] = reader.getRecord("extra/mlff.json");
    return std::string(static_cast<const char *>(data.get()), size);
  } catch (const std::exception &) {
    throw std::runtime_error(path + " is not a potential exported for LAMMPS, or is truncated; " + write_again);
  }
}

static FixedPointFacts read_fixed_point(const json &said)
{
  FixedPointFacts facts;
  facts.n_forward = said.at("n_forward").get<int>();
  facts.n_adjoint = said.at("n_adjoint").get<int>();
  facts.slots = said.at("slots").get<int>();
  facts.width = said.at("width").get<int>();
  facts.tolerance = said.at("tolerance").get<double>();
  facts.cold_tolerance = said.at("cold_tolerance").get<double>();
  facts.fit_ridge = said.at("fit_ridge").get<double>();
  facts.ridge = said.at("ridge").get<double>();
  facts.shadow = said.value("shadow", false);
  facts.max_repeats = said.at("max_repeats").get<int>();
  facts.reach = said.value("reach", facts.reach);
  facts.factor = said.value("factor", facts.factor);
  facts.warm_patience = said.value("warm_patience", facts.warm_patience);
  facts.cold_patience = said.value("cold_patience", facts.cold_patience);
  return facts;
}

static void require(bool is_right, const std::string &path, const std::string &what)
{
  if (!is_right) throw std::runtime_error(path + ": " + what);
}

static Facts read_facts(const std::string &path, const json &said)
{
  Facts facts;
  facts.path = path;
  require(said.at("format").get<std::string>() == "mlff_calc", path, std::string("not a file of mlff_calc; ") + write_again);
  const int version = said.at("format_version").get<int>();
  require(version <= newest_format, path,
          "format version " + std::to_string(version) + " is newer than this plugin reads (" +
              std::to_string(newest_format) + "); update mlff_calc and run: mlff lammps build");
  const auto kind = said.at("kind").get<std::string>();
  require(kind == "lammps", path, "the file is of kind " + kind + ", LAMMPS needs kind lammps; " + write_again);
  facts.backend = said.at("backend").get<std::string>();
  require(facts.backend == "torchscript" || facts.backend == "aoti", path, "unknown backend " + facts.backend);
  facts.dtype = said.at("dtype").get<std::string>();
  require(facts.dtype == "float32" || facts.dtype == "float64", path,
          "dtype " + facts.dtype + " is neither float32 nor float64; " + write_again);
  const auto energy = said.at("units").at("energy").get<std::string>();
  const auto length = said.at("units").at("length").get<std::string>();
  require(energy == "eV" && length == "Angstrom", path, "units " + energy + ", " + length + " are not eV, Angstrom");
  facts.cutoff = said.at("cutoff").get<double>();
  facts.n_layers = said.at("n_layers").get<int>();
  if (version < 4 && facts.n_layers > 0) facts.n_layers++;    // earlier versions left out what is read before the first layer
  facts.exchange_width = said.at("exchange_width").get<int>();
  facts.device = said.at("device").get<std::string>();
  facts.torch = said.at("torch").get<std::string>();
  const auto numbers = said.at("elements").get<std::vector<int>>();
  const auto symbols = said.at("symbols").get<std::vector<std::string>>();
  for (size_t k = 0; k < symbols.size(); k++) {
    facts.elements[symbols[k]] = numbers.at(k);
    facts.symbols += (k ? " " : "") + symbols[k];
  }
  facts.inputs = said.at("inputs").get<std::vector<std::string>>();
  facts.outputs = said.at("outputs").get<std::vector<std::string>>();
  if (!said.at("fixed_point").is_null()) facts.fixed_point = read_fixed_point(said.at("fixed_point"));
  if (said.contains("domain") && said.at("domain").contains("forces_std"))    // null, or no such key, in most files
    facts.threshold = said.at("domain").at("forces_std").get<double>();
  require(!facts.threshold || *facts.threshold > 0.0, path,
          std::string("its threshold for spreads of forces is not above zero; ") + write_again);
  facts.gives_spreads = std::find(facts.outputs.begin(), facts.outputs.end(), "forces_std") != facts.outputs.end();
  return facts;
}

int n_cuda_devices()
{
  return at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
}

std::string first_words(const std::exception &failure)
{
  const auto *known = dynamic_cast<const c10::Error *>(&failure);
  const std::string all = known ? known->what_without_backtrace() : failure.what();
  // TorchScript prints its own stack first and the reason last.
  if (all.find("Traceback") == std::string::npos) return all.substr(0, all.find('\n'));
  const auto end = all.find_last_not_of(" \n");
  const auto begin = all.rfind('\n', end);
  return all.substr(begin + 1, end - begin);
}

// Refuse a device that the file or this machine does not have.
static void check_device(const Facts &about, const at::Device &device)
{
  const std::string name = device.is_cpu() ? "cpu" : "cuda";
  require(about.device == name, about.path,
          "it was exported for " + about.device + ", and pair_style mlff asks for " + name +
              "; write it again with: mlff export POTENTIAL --to lammps --device " + name);
  const int n = n_cuda_devices();
  require(device.is_cpu() || device.index() < n, about.path,
          "PyTorch sees " + std::to_string(n) + " CUDA devices, and device " + device.str() + " is asked for; leave it out");
}

std::string torch_version()
{
  const auto text = at::show_config();
  const std::string key = "TORCH_VERSION=";
  const auto begin = text.find(key);
  if (begin == std::string::npos) return "unknown";
  return text.substr(begin + key.size(), text.find_first_of(", \n", begin) - begin - key.size());
}

// --- backends ---------------------------------------------------------------------------------------------------------

class Model::Backend {
 public:
  virtual ~Backend() = default;
  virtual Tensors run(const Tensors &inputs) = 0;
};

class Model::TorchScript : public Model::Backend {
 public:
  TorchScript(const std::string &path, at::Device device) : module(torch::jit::load(path, device)) { module.eval(); }

  Tensors run(const Tensors &inputs) override
  {
    const auto found = module.forward({inputs.begin(), inputs.end()});
    if (found.isTensorList()) return found.toTensorVector();
    Tensors outputs;
    const auto elements = found.isTuple() ? found.toTuple()->elements().vec() : found.toListRef().vec();
    for (const auto &value : elements) outputs.push_back(value.toTensor());
    return outputs;
  }

 private:
  torch::jit::Module module;
};

class Model::Compiled : public Model::Backend {
 public:
  Compiled(const std::string &path, at::Device device) :
      loader(path, "model", false, 1, device.is_cpu() ? -1 : device.index())
  {
  }

  Tensors run(const Tensors &inputs) override { return loader.run(inputs); }

 private:
  torch::inductor::AOTIModelPackageLoader loader;
};

// --- the model --------------------------------------------------------------------------------------------------------

Model::Model(const std::string &path, const std::string &where) : device(where)
{
  const auto text = read_record(path);
  try {
    about = read_facts(path, json::parse(text));
  } catch (const json::exception &error) {
    throw std::runtime_error(path + ": its description is damaged (" + error.what() + "); " + write_again);
  }
  check_device(about, device);
  const auto written_by = about.torch.substr(0, about.torch.find('+'));
  require(about.backend != "aoti" || written_by == torch_version(), path,
          "its code was compiled by PyTorch " + about.torch + ", and " + torch_version() +
              " is loaded: compiled code fits one version; " + write_again);
  try {
    if (about.backend == "torchscript")
      backend = std::make_unique<TorchScript>(path, device);
    else
      backend = std::make_unique<Compiled>(path, device);
  } catch (const std::exception &error) {
    throw std::runtime_error(path + ": PyTorch " + torch_version() + " cannot load it (" + first_words(error) + "); " + write_again);
  }
}

Model::~Model() = default;

std::map<std::string, at::Tensor> Model::operator()(const std::map<std::string, at::Tensor> &inputs) const
{
  Tensors values;
  for (const auto &name : about.inputs) {
    const auto found = inputs.find(name);
    require(found != inputs.end(), about.path, "asks for an input " + name + ", which this plugin does not know");
    values.push_back(found->second.to(device));
  }
  const auto found = backend->run(values);
  require(found.size() == about.outputs.size(), about.path,
          "gives " + std::to_string(found.size()) + " outputs and announces " + std::to_string(about.outputs.size()));
  std::map<std::string, at::Tensor> outputs;
  for (size_t k = 0; k < found.size(); k++) outputs[about.outputs[k]] = found[k].to(at::kCPU).contiguous();
  check(outputs, inputs);
  return outputs;
}

void Model::check(const std::map<std::string, at::Tensor> &outputs, const std::map<std::string, at::Tensor> &inputs) const
{
  const auto n_local = inputs.at("atomic_numbers").size(0), n_nodes = inputs.at("node_numbers").size(0);
  std::map<std::string, std::vector<int64_t>> shapes = {
      {"energies", {n_local}}, {"forces", {n_nodes, 3}}, {"atomic_virial", {n_nodes, 3, 3}}};
  if (about.gives_spreads) shapes["forces_std"] = {n_local, 3};
  if (about.fixed_point) {
    shapes["residuals"] = {2};
    shapes["memory"] = {n_local, about.fixed_point->slots, about.fixed_point->width};
  }
  for (const auto &[name, shape] : shapes) {
    const auto found = outputs.find(name);
    require(found != outputs.end(), about.path, "has no output " + name + "; " + write_again);
    require(found->second.sizes() == at::IntArrayRef(shape), about.path, "output " + name + " has a wrong shape");
    const auto wanted = name == "memory" && about.dtype == "float32" ? at::kFloat : at::kDouble;
    require(found->second.scalar_type() == wanted, about.path,
            "output " + name + " has a wrong dtype, " + at::toString(found->second.scalar_type()) + "; " + write_again);
  }
}

}    // namespace mlff
