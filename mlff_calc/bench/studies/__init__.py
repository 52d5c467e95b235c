"""Studies behind pages of the documentation: which degrees tell what, and what reusing fixed points costs and saves."""
