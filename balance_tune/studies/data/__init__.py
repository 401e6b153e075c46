"""Where a study's data lies: prepared stores, embedded datasets, tables to evaluate on."""
