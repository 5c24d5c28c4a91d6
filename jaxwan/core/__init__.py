"""Floor 0: records, keys, time, numbers. Imports nothing else of the package."""
