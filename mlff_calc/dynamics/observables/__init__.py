"""What a trajectory says: structure, diffusion, vibrations, drift."""
