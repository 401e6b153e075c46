"""MLflow: what people and programs see of a study. The study itself never waits for it and never depends on it.

`sync` writes to MLflow what the folder of the study holds and MLflow lacks. `worker_process` repeats it while the study
runs, `worker` keeps that process, and `tracker` is what the study calls.
"""
