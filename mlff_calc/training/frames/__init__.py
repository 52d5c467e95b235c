"""Frames of structures as the data of a recipe: read, split, checked, counted and fingerprinted before anything runs."""
