"""Scripted faults against real studies; the leaderboard at the end is what it would have been."""
