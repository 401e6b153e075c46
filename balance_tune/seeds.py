"""Named, stateless randomness: the seed of any draw follows from (trial seed, purpose, position)."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for one purpose, the same in every process and after every resume."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(device: torch.device | str, seed: int, *names: str | int) -> torch.Generator:
    """Return a fresh generator on `device` for one purpose."""
    source = torch.Generator(device)
    source.manual_seed(derive(seed, *names))
    return source
