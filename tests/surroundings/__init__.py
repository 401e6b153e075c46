"""Situations in which an operator calls a command: each ends within seconds, in success or in one line."""
