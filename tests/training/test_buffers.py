"""Memory of batches is used again when nobody holds a batch any more, and never before."""

from __future__ import annotations

import gc

import torch

from balance_tune.training.buffers import LEAST, SPARE, Buffers

SHAPE = (4, LEAST)


def test_memory_is_used_again_once_the_last_tensor_in_it_is_gone() -> None:
    buffers = Buffers()
    first = buffers.empty(SHAPE, torch.float32)
    where, view = first.data_ptr(), first[1:3]
    del first
    assert buffers.empty(SHAPE, torch.float32).data_ptr() != where
    del view
    assert where in {x.data_ptr() for x in [buffers.empty(SHAPE, torch.float32) for _ in range(2)]}


def test_a_smaller_batch_of_another_type_fits_into_a_larger_one() -> None:
    buffers = Buffers()
    where = buffers.empty(SHAPE, torch.float32).data_ptr()
    small = buffers.empty((3, LEAST), torch.float16)
    assert (small.data_ptr(), small.shape, small.dtype) == (where, (3, LEAST), torch.float16)
    assert small.is_contiguous()
    assert buffers.empty(SHAPE, torch.float32).data_ptr() != where


def test_what_autograd_saved_of_a_batch_stays_until_the_gradient_is_there() -> None:
    buffers = Buffers()
    batch = buffers.empty(SHAPE, torch.float32).fill_(2.0)
    weight = torch.ones((), requires_grad=True)
    loss = (batch * weight).mean()
    del batch
    buffers.empty(SHAPE, torch.float32).fill_(5.0)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.item() == 2.0


def test_so_many_batches_as_are_kept_are_all_of_their_own() -> None:
    buffers = Buffers()
    kept = [buffers.empty(SHAPE, torch.uint8).fill_(k) for k in range(3 * SPARE)]
    assert [int(x.float().mean()) for x in kept] == list(range(3 * SPARE))
    places = {x.data_ptr() for x in kept}
    del kept
    gc.collect()
    again = [buffers.empty(SHAPE, torch.uint8) for _ in range(SPARE)]
    assert {x.data_ptr() for x in again} <= places  # of the rest the memory is given back
    assert not buffers._free


def test_small_tensors_are_left_to_the_allocator() -> None:
    buffers = Buffers()
    assert buffers.empty((2, 3), torch.float64).shape == (2, 3)
    assert not buffers._free
