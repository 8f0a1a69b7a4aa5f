"""The tables and their constraints, nothing else."""
