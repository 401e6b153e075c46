"""A study file: its schema, its reader, and one line for whatever is wrong with it."""
