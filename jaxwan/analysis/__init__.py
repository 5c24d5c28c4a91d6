"""Reading results: tables and plots from pandas frames, without JAX."""
