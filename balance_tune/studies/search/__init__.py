"""Which trial runs next: the queue of a study and its samplers."""
