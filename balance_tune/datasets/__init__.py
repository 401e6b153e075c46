"""Datasets: how each source is read and split, and the memory-mapped store that training opens."""
