"""Floor 2: the validated front door, the catalog, and the lowering to Plan and Knobs."""
