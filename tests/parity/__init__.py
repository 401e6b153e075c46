"""Whole runs of each method beside a plain replay of its official step, written here from the formulas alone."""
