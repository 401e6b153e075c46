"""The training loop, what a method may use inside it, evaluation and checkpoints; independent of Ray."""
