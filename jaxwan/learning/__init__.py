"""The learner: what a contribution does to the model. It never sees a clock or a byte rate."""
