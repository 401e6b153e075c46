"""Methods in a training loop of the user's own: `balance_tune.balance`."""
