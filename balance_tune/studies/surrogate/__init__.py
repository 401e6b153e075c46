"""What would a trial end with: a model of the objective over an arm's search space."""
