// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.

#include "pair_mlff.h"

#include "fix_mlff_memory.h"
#include "masses.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace utils = LAMMPS_NS::utils;

namespace mlff {

// What this plugin was compiled for; volatile, so that the comparison is made when it is loaded.
static const char *const volatile built_for_torch = "MLFF_TORCH " TORCH_VERSION;
static const char *const volatile built_for_lammps = "MLFF_LAMMPS " MLFF_LAMMPS_VERSION;
static const char *const build_again = "build it for these versions with: mlff lammps build";

// LAMMPS's setting of threads for as long as the object lives.
class Threads {
 public:
  explicit Threads(int wanted) : before(at::get_num_threads())
  {
    if (wanted != before) at::set_num_threads(wanted);
  }
  ~Threads()
  {
    if (at::get_num_threads() != before) at::set_num_threads(before);
  }

 private:
  const int before;
};

// Large arrays come from the heap and stay there between steps: pages that are fresh in every step cost a fifth of it or more.
static void keep_freed_memory()
{
#ifdef __GLIBC__
  const char *wanted = std::getenv("MLFF_KEEP_MEMORY");
  if (wanted && strcmp(wanted, "0") == 0) return;
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
#endif
}

PairMLFF::PairMLFF(LAMMPS_NS::LAMMPS *lammps) : Pair(lammps), ghosts(lammps, this)
{
  keep_freed_memory();
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;    // virials come from the network, for folded ghosts as well
  centroidstressflag = LAMMPS_NS::CENTROID_AVAIL;
  nextra = 5;
  pvector = new double[nextra]();
}

PairMLFF::~PairMLFF()
{
  delete[] pvector;
  if (copymode) return;
  drop_memory();
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

// --- the input file ---------------------------------------------------------------------------------------------------

void PairMLFF::settings(int narg, char **arg)
{
  check_versions();
  forget();
  wants_ghosts = always_cold = false;
  tolerance = 0.0;
  device = "cpu";
  domain_action = "warn";
  for (int k = 0; k < narg; k++) {
    const std::string word = arg[k];
    if (word == "ghosts") {
      wants_ghosts = true;
      continue;
    }
    if (k + 1 >= narg) error->all(FLERR, "pair_style mlff: {} is no option, or lacks its value", word);
    const char *value = arg[++k];
    if (word == "tolerance") {
      tolerance = utils::numeric(FLERR, value, false, lmp);
      if (!(tolerance > 0.0)) error->all(FLERR, "pair_style mlff: tolerance {} is not above zero", value);
    } else if (word == "reset") {
      always_cold = utils::logical(FLERR, value, false, lmp) == 1;
    } else if (word == "device") {
      device = value;
      if (device != "cpu" && device != "cuda" && !utils::strmatch(device, "^cuda:\\d+$"))
        error->all(FLERR, "pair_style mlff: device {} is neither cpu nor cuda nor cuda:N", device);
    } else if (word == "domain") {
      domain_action = value;
      if (domain_action != "warn" && domain_action != "stop" && domain_action != "off")
        error->all(FLERR, "pair_style mlff: domain {} is neither warn nor stop nor off", domain_action);
    } else {
      error->all(FLERR, "pair_style mlff: {} is no option; there are ghosts, tolerance X, reset yes, device cuda, domain stop",
                 word);
    }
  }
}

// LAMMPS keeps the style and calls settings alone where its name stays: the file belongs to the old settings.
void PairMLFF::forget()
{
  drop_memory();
  step.reset();
  watch.reset();
  builder.reset();
  model.reset();
  if (!allocated) return;
  for (int i = 1; i <= atom->ntypes; i++)
    for (int j = 1; j <= atom->ntypes; j++) setflag[i][j] = 0;
}

void PairMLFF::check_versions()
{
  const std::string torch = strchr(built_for_torch, ' ') + 1, lammps = strchr(built_for_lammps, ' ') + 1;
  if (torch != torch_version())
    error->all(FLERR, "pair mlff was built for PyTorch {}, and {} is loaded; {}", torch, torch_version(), build_again);
  if (lammps != std::to_string(lmp->num_ver))
    error->all(FLERR, "pair mlff was built for LAMMPS {}, and this is {}; {}", lammps, lmp->num_ver, build_again);
}

void PairMLFF::allocate()
{
  allocated = 1;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) setflag[i][j] = 0;
  map = new int[n];
}

void PairMLFF::coeff(int narg, char **arg)
{
  if (narg < 4) error->all(FLERR, "pair mlff: write pair_coeff * * FILE and an element, or NULL, for each atom type");
  if (!allocated) allocate();
  map_element2type(narg - 3, arg + 3);
  const auto where = device == "cuda" ? fmt::format("cuda:{}", own_device()) : device;
  on_all_ranks([&]() { model = std::make_unique<Model>(arg[2], where); });
  numbers = find_numbers(arg[2]);
  masses_are_checked = false;
  drop_memory();
  step.reset();
  builder.reset();
  make_watch();
  if (!model->facts().fixed_point) {
    if (tolerance > 0.0) error->all(FLERR, "pair_style mlff tolerance is for fixed-point potentials, and {} is none", arg[2]);
    return;
  }
  if (wants_ghosts)
    error->all(FLERR, "pair_style mlff ghosts: the fixed point of {} reaches through all atoms; leave out ghosts", arg[2]);
  step = std::make_unique<FixedPointStep>(lmp, model->facts(), tolerance, always_cold);
}

// A threshold that is there and not compared is said, and one that is asked for and not there refused.
void PairMLFF::make_watch()
{
  watch.reset();
  const auto &facts = model->facts();
  if (domain_action == "off") return;
  const bool stops = domain_action == "stop";
  if (facts.threshold && facts.gives_spreads) {
    watch = std::make_unique<SpreadWatch>(lmp, facts.path, *facts.threshold, stops);
  } else if (stops) {
    error->all(FLERR, "pair_style mlff domain stop: {} {}; write domain off", facts.path,
               facts.threshold ? "was exported without the spreads to compare with its threshold: export it again"
                               : "has no threshold for spreads of forces, as potentials of mlff distill do");
  } else if (facts.threshold && comm->me == 0) {
    utils::logmesg(lmp, "Note: pair mlff: {} has a threshold for spreads of forces and no spreads to compare with it; export it "
                        "again\n", facts.path);
  }
}

// The device of this rank, where a machine has several: its number among the ranks of the machine, in turn.
int PairMLFF::own_device()
{
  MPI_Comm machine;
  int rank = 0;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  MPI_Comm_rank(machine, &rank);
  MPI_Comm_free(&machine);
  return rank % std::max(1, n_cuda_devices());
}

// Do work that may throw; where it does on any rank, all ranks stop with its message.
void PairMLFF::on_all_ranks(const std::function<void()> &work)
{
  std::string message;
  try {
    work();
  } catch (const std::exception &failure) {
    message = first_words(failure);
  }
  int first = message.empty() ? comm->nprocs : comm->me;
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;
  int size = static_cast<int>(message.size());
  MPI_Bcast(&size, 1, MPI_INT, first, world);
  message.resize(size);
  MPI_Bcast(message.data(), size, MPI_CHAR, first, world);
  error->all(FLERR, "pair mlff: {}", message);
}

std::vector<int> PairMLFF::find_numbers(const char *file)
{
  const auto &facts = model->facts();
  std::vector<int> by_type(atom->ntypes + 1, 0);
  for (int type = 1; type <= atom->ntypes; type++) {
    if (map[type] < 0) continue;
    const char *symbol = elements[map[type]];
    const auto found = facts.elements.find(symbol);
    if (found == facts.elements.end())
      error->all(FLERR, "pair mlff: element {} of atom type {} is not in {}, which knows {}", symbol, type, file,
                 facts.symbols);
    by_type[type] = found->second;
  }
  return by_type;
}

// When a run begins, not in pair_coeff: replicate refuses to work beside a fix with data of atoms. LAMMPS still has the data
// of a restart file then, and hands them to the fix.
void PairMLFF::make_memory()
{
  const auto &facts = model->facts();
  memory_id = "mlff_memory";
  for (int k = 2; modify->get_fix_by_id(memory_id); k++) memory_id = fmt::format("mlff_memory_{}", k);
  modify->add_fix(fmt::format("{} all mlff/memory {} {} {}", memory_id, facts.fixed_point->slots, facts.fixed_point->width,
                              facts.dtype == "float32" ? 4 : 8));
}

void PairMLFF::drop_memory()
{
  if (!memory_id.empty() && modify && modify->nfix && modify->get_fix_by_id(memory_id)) modify->delete_fix(memory_id);
  memory_id.clear();
}

FixMLFFMemory &PairMLFF::find_memory()
{
  auto *fix = dynamic_cast<FixMLFFMemory *>(modify->get_fix_by_id(memory_id));
  if (!fix) error->all(FLERR, "pair mlff: its fix {} is gone; do not unfix it", memory_id);
  return *fix;
}

void PairMLFF::init_style()
{
  check_engine();
  check_masses();
  const auto &facts = model->facts();
  if (step && wants_ghosts) error->all(FLERR, "pair_style mlff ghosts: a fixed point reaches through all atoms; leave out ghosts");
  if (step && facts.fixed_point->shadow && update->whichflag == 2)
    error->all(FLERR, "pair mlff: {} holds shadow dynamics, which follows a motion in time, and minimize has none; export the "
               "potential without --reuse shadow for minimizations", facts.path);
  if (step && memory_id.empty()) make_memory();
  const auto layout = wants_ghosts ? Layout::ghosts : comm->nprocs == 1 ? Layout::fold : Layout::exchange;
  const int padding = facts.elements.begin()->second;
  builder = std::make_unique<GraphBuilder>(lmp, layout, facts.cutoff, facts.n_layers, numbers, padding);
  if (wants_ghosts) {
    const double reach = facts.n_layers * facts.cutoff + neighbor->skin;
    comm->cutghostuser = std::max(comm->cutghostuser, reach);
  }
  const bool crosses = layout == Layout::exchange;
  comm_forward = comm_reverse = comm_reverse_off = crosses ? ghosts.set_width(facts.exchange_width, facts.dtype) : 0;
  neighbor->add_request(this, LAMMPS_NS::NeighConst::REQ_FULL | (wants_ghosts ? LAMMPS_NS::NeighConst::REQ_GHOST : 0));
  // Behind pair style hybrid LAMMPS sizes its buffers by what the hybrid says.
  force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
  force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
}

void PairMLFF::check_engine()
{
  if (!model) error->all(FLERR, "pair mlff: there is no file yet; write pair_coeff * * FILE and the elements");
  if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair mlff works in eV and Angstrom, and units are {}; write units metal", update->unit_style);
  if (!atom->tag_enable) error->all(FLERR, "pair mlff needs atom IDs; leave out atom_modify id no");
  if (!force->newton_pair && (comm->nprocs > 1 || wants_ghosts))
    error->all(FLERR, "pair mlff sends forces of ghost atoms home, and newton is off for pairs; write newton on");
  if (atom->molecular != LAMMPS_NS::Atom::ATOMIC && atom->nbonds > 0)
    for (int k = 1; k <= 3; k++)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        error->all(FLERR, "pair mlff would not see atoms that are bonded; write special_bonds lj/coul 1 1 1");
}

// Masses decide about motion, elements about forces: say once where they contradict each other.
void PairMLFF::check_masses()
{
  if (masses_are_checked || !atom->mass) return;
  masses_are_checked = true;
  for (int type = 1; type <= atom->ntypes && comm->me == 0; type++) {
    if (numbers[type] == 0 || !atom->mass_setflag[type]) continue;
    const auto verdict = judge_mass(type, atom->mass[type], numbers[type], elements[map[type]]);
    if (verdict.kind == MassKind::contradicts) error->warning(FLERR, "pair mlff: {}", verdict.words);
    if (verdict.kind == MassKind::isotope) utils::logmesg(lmp, "Note: pair mlff: {}\n", verdict.words);
  }
}

double PairMLFF::init_one(int i, int j)
{
  if (!setflag[i][j]) error->all(FLERR, "pair mlff: no element for atom type {} or {}", i, j);
  return model->facts().cutoff;
}

// --- a step -----------------------------------------------------------------------------------------------------------

void PairMLFF::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  const Threads threads(comm->nthreads);
  const c10::InferenceMode no_gradients;
  const auto graph = builder->build(list);
  ghosts.set_rows(comm->nprocs == 1 || wants_ghosts, graph.first_ghost);
  const auto outputs = run(graph);
  judge(outputs, graph);
  add(outputs, graph);
  publish();
}

PairMLFF::Outputs PairMLFF::run(const Graph &graph)
{
  const CurrentEngine mine(&ghosts);
  try {
    return step ? step->run(*model, graph, find_memory()) : (*model)(graph.tensors);
  } catch (const LAMMPS_NS::LAMMPSException &) {
    throw;
  } catch (const std::exception &failure) {
    // The other ranks may wait for this one in an exchange: only an abort ends them.
    error->one(FLERR, "pair mlff: the network failed in step {}: {}. Export it again, or report this with the file",
               update->ntimestep, first_words(failure));
  }
}

// One sum over ranks for all that ends a run.
void PairMLFF::judge(const Outputs &outputs, const Graph &graph)
{
  const auto *energies = outputs.at("energies").const_data_ptr<double>();
  const auto *forces = outputs.at("forces").const_data_ptr<double>();
  double sum = 0.0;
  for (int64_t k = 0; k < graph.n_local; k++) sum += 0.0 * energies[k];
  for (int64_t k = 0; k < 3 * graph.n_nodes; k++) sum += 0.0 * forces[k];    // 0, or NaN for a NaN and for an infinity
  double worst[2] = {std::isfinite(sum) ? 0.0 : 1.0, 0.0};
  if (watch) worst[1] = watch->longest(outputs.at("forces_std"), graph.tensors.at("owned"));
  MPI_Allreduce(MPI_IN_PLACE, worst, watch ? 2 : 1, MPI_DOUBLE, MPI_MAX, world);
  if (worst[0] > 0.0) {
    int bad = std::isfinite(sum) ? 0 : 1;
    MPI_Allreduce(MPI_IN_PLACE, &bad, 1, MPI_INT, MPI_SUM, world);
    error->all(FLERR,
               "pair mlff: energy or forces are not finite in step {} on {} of {} ranks. Atoms are probably too close: check "
               "the structure, shorten the timestep",
               update->ntimestep, bad, comm->nprocs);
  }
  if (watch) watch->judge(worst[1]);
}

void PairMLFF::add(const Outputs &outputs, const Graph &graph)
{
  const auto *energies = outputs.at("energies").const_data_ptr<double>();
  const auto *forces = outputs.at("forces").const_data_ptr<double>();
  const auto *virials = outputs.at("atomic_virial").const_data_ptr<double>();
  const int n = graph.has_ghosts ? atom->nlocal + atom->nghost : atom->nlocal;
  for (int i = 0; i < n; i++) {
    const auto row = builder->row(i);
    for (int k = 0; k < 3; k++) atom->f[i][k] += forces[3 * row + k];
    if (eflag_either && i < atom->nlocal) {
      if (eflag_global) eng_vdwl += energies[row];
      if (eflag_atom) eatom[i] += energies[row];
    }
    if (!vflag_either) continue;
    const double *w = virials + 9 * row;
    const double six[6] = {w[0], w[4], w[8], 0.5 * (w[1] + w[3]), 0.5 * (w[2] + w[6]), 0.5 * (w[5] + w[7])};
    for (int k = 0; k < 6; k++) {
      if (vflag_global) virial[k] += six[k];
      if (vflag_atom) vatom[i][k] += six[k];
    }
    if (!cvflag_atom) continue;
    const double nine[9] = {w[0], w[4], w[8], w[1], w[2], w[5], w[3], w[6], w[7]};    // xx yy zz xy xz yz yx zx zy
    for (int k = 0; k < 9; k++) cvatom[i][k] += nine[k];
  }
}

// LAMMPS calls this at the end of a run or a minimization.
void PairMLFF::finish()
{
  if (watch) watch->say_count();
}

// compute pair sums over ranks: rank 0 speaks for all.
void PairMLFF::publish()
{
  std::fill(pvector, pvector + nextra, 0.0);
  if (!step || comm->me != 0) return;
  pvector[0] = step->n_calls * model->facts().fixed_point->n_forward;
  pvector[1] = step->n_calls * model->facts().fixed_point->n_adjoint;
  pvector[2] = step->residual;
  pvector[3] = step->adjoint_residual;
  pvector[4] = static_cast<double>(step->n_cold);
}

// --- what LAMMPS calls while features cross ---------------------------------------------------------------------------

int PairMLFF::pack_forward_comm(int n, int *list, double *buffer, int, int *)
{
  return ghosts.pack_forward(n, list, buffer);
}

void PairMLFF::unpack_forward_comm(int n, int first, double *buffer)
{
  ghosts.unpack_forward(n, first, buffer);
}

int PairMLFF::pack_reverse_comm(int n, int first, double *buffer)
{
  return ghosts.pack_reverse(n, first, buffer);
}

void PairMLFF::unpack_reverse_comm(int n, int *list, double *buffer)
{
  ghosts.unpack_reverse(n, list, buffer);
}

}    // namespace mlff
