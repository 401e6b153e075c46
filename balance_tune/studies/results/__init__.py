"""What came out: leaderboard, statistics, findings in words, report."""
