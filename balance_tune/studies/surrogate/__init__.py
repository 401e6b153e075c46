"""A model of the objective over an arm's search space."""
