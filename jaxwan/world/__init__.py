"""The world: who contributes when. It never sees a gradient."""
