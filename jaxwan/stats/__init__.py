"""Statistics of runs: float64 on the host, NumPy and SciPy only."""
