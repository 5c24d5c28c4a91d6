"""Published effects, reproduced: each a claim, a sweep and a figure with its interval."""
