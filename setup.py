"""Lists the packages: `search_spaces/` ships as `balance_tune/search_spaces`. Everything else is in pyproject.toml."""

from setuptools import find_packages, setup

SHIPPED = "balance_tune.search_spaces"

setup(packages=[*find_packages(include=["balance_tune*"]), SHIPPED], package_dir={SHIPPED: "search_spaces"})
