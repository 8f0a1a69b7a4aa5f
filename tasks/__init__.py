"""Carriers: each task body is one call into the pipeline."""
