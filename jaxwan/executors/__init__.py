"""Executors: where chunks run."""
