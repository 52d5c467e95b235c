"""Studies behind pages of the documentation: the expressivity of degrees, and the cost of reusing fixed points."""
