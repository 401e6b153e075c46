"""The commands of `balance-tune`, one file each: `add` declares the arguments, `run` returns the exit status.

Start-up matters: a file of this package imports nothing heavier than argparse before its `run` is called.
"""
