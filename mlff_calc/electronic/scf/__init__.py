"""Self-consistent fields by PySCF, the only place of the package that imports it."""
