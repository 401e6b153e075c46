"""Ray: the cluster a study runs on, jobs that are submitted to it, and what its nodes can do."""
