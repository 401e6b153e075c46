"""Which trials are pruned, by which rule, and the log of these decisions."""
