"""The command line `mlff`, one file per command. Torch is imported only when a command runs."""
