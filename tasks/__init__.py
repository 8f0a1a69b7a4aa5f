"""Celery tasks and the intake; each task body is one call into the pipeline."""
