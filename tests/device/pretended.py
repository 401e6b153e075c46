"""A pretended CUDA device: computes on the CPU, refuses what a real one refuses, and records when the host waits.

    with pretended() as device:          # device.events is a Counter of (where, kind, site)
        x = torch.ones(3).to("cuda")     # x.device is cuda:0, x.numpy() raises, x + torch.ones(3) raises
        x.sum().item()                   # recorded: the host waits

A tensor of the device is a wrapper around a tensor of the CPU. For torch's C++ code it lies on a device type of its own
(`PrivateUse1`, which needs no driver), so torch's own checks between devices hold; Python reads `cuda:0`. An operator
comes to `_run`, which checks devices and generators, records waits, and runs the operator on the wrapped tensors.
Collectives on it run on the process group's backend for `cuda`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import balance_tune

aten = torch.ops.aten
DEVICE = torch.device("cuda:0")
BEHIND = "pretended"  # what torch's C++ code calls the device
MEMORY = 80 * 2**30
PACKAGE = str(Path(balance_tune.__file__).parent)
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
INDEXED |= {aten._unsafe_index.Tensor}
WAITS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.bincount.default,
    aten.equal.default, aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor, aten.is_nonzero.default,
}  # fmt: skip
# The arithmetic of autocast on CUDA: what is computed in the lower precision, and what in float32.
LOWER = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "addbmm", "conv1d", "conv2d", "conv3d")
LOWER += ("scaled_dot_product_attention",)
EXACT = (
    "softmax.int",
    "log_softmax.int",
    "layer_norm",
    "cross_entropy_loss",
    "norm.Scalar",
    "exp",
    "pow.Tensor_Scalar",
)
# Functions of the package in which a step happens, or a batch is made for one.
STEP = {"train_step", "default_step", "_batch", "prepared", "draws_for", "share", "_copied"}


class Refused(RuntimeError):
    """A real device would have raised here."""


class Recorder:
    """What the host has waited for: (where, kind, site) -> how often.

    `where` is "step" inside a training step, the feeding of its batch included, and "epoch" elsewhere.
    """

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str, str]] = Counter()
        self.free = MEMORY
        self.broken = False  # as after an error of a kernel: nothing works in this process any more

    def note(self, kind: str) -> None:
        where, site = _where()
        self.events[where, kind, site] += 1

    def of(self, where: str) -> dict[str, int]:
        return {f"{kind} at {site}": n for (place, kind, site), n in self.events.items() if place == where}


class DeviceTensor(Tensor):
    """A tensor of the device."""

    behind: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, behind: Tensor) -> DeviceTensor:
        x = Tensor._make_wrapper_subclass(
            cls,
            behind.size(),
            strides=behind.stride(),
            storage_offset=behind.storage_offset(),
            dtype=behind.dtype,
            layout=behind.layout,
            device=f"{BEHIND}:0",
        )
        x.behind = behind
        return x

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        rest = {k: v for k, v in kwargs.items() if k != "copy"}
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **rest)
        options: dict[str, Any] = {"copy": kwargs.get("copy", False), "non_blocking": non_blocking}
        if device is not None and device.type != "cuda":
            options["device"] = device
        if layout is not None:
            options["memory_format"] = layout
        return super().to(dtype=dtype or self.dtype, **options)

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def record_stream(self, stream: object) -> None: ...

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __repr__(self, **kwargs: Any) -> str:
        return f"DeviceTensor({self.behind})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = self.detach().behind
        _saved[plain.untyped_storage()._cdata] = plain
        return plain.__reduce_ex__(protocol)


class Generator(torch._C.Generator):
    """A generator of the device; asked for one of the CPU, torch's own."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type != "cuda":
            return torch._C.Generator(device)
        made = super().__new__(cls, "cpu")
        _generators.add(made._cdata)  # operators are given another Python object of the same generator
        return made

    def __del__(self) -> None:
        _generators.discard(self._cdata)

    device = property(lambda self: DEVICE)  # type: ignore[assignment]


class Stream:
    """Work is done at once, so that nothing is left to wait for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def wait_stream(self, stream: object) -> None: ...

    def synchronize(self) -> None:
        _recorders[-1].note("stream")


class Event:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.time = 0.0

    def record(self, stream: object = None) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.time - self.time)

    def synchronize(self) -> None:
        _recorders[-1].note("event")


class _Mode(TorchDispatchMode):
    """Every operator of this thread comes to `_run`, those that make tensors too."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler to say so

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # operators come as they are called there, not as what they are made of
            with self:
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        return _run(func, args, kwargs or {})


@contextlib.contextmanager
def _mode() -> Iterator[None]:
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is one on the CPU that is copied
    try:
        with torch.autograd.set_multithreading_enabled(False), _Mode():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)


@contextlib.contextmanager
def pretended() -> Iterator[Recorder]:
    """Have a CUDA device, `cuda:0`, until the end of the block."""
    _register()
    recorder = Recorder()
    _recorders.append(recorder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            _patch(patch, recorder)
            with _mode():
                yield recorder
    finally:
        _recorders.pop()
        _saved.clear()


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operator as the device would."""
    if func.namespace == "c10d":
        return _collective(func, args, kwargs)
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    place = kwargs.get("device")
    ours = any(isinstance(t, DeviceTensor) for t in tensors)
    on_device = ours if place is None else torch.device(place).type != "cpu"
    if (ours or on_device) and _recorders[-1].broken:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it elsewhere.")
    if ours:
        _check_devices(func, args, tensors)
    _check_generators(func, args, kwargs, on_device)
    if ours or on_device:
        _note_waits(func, args, kwargs, on_device)
    pinned = kwargs.get("pin_memory")
    replaced = {"device": torch.device("cpu")} if place is not None else {}
    replaced |= {"pin_memory": False} if pinned else {}
    plain_args, plain = tree_map_only(DeviceTensor, lambda t: t.behind, (args, {**kwargs, **replaced}))
    # wrappers are ordinary tensors in inference mode too
    with torch.inference_mode(False), torch.no_grad(), _default_generator(func, on_device):
        out = func(*plain_args, **plain)
    if func is aten._local_scalar_dense.default:
        return out
    arguments, returns = func._schema.arguments, func._schema.returns
    if returns and returns[0].alias_info is not None and returns[0].alias_info.is_write:  # in place, or `out=`
        written = [i for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write]
        targets = [args[i] if i < len(args) else kwargs[arguments[i].name] for i in written]
        return targets[0] if len(returns) == 1 else tuple(targets[: len(returns)])
    if on_device:
        with torch.inference_mode(False):
            return tree_map_only(Tensor, DeviceTensor, out)
    if pinned:
        out.is_page_locked = True
    return out


def _check_devices(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """Raise where a kernel of CUDA would; a single number on the CPU may stand beside tensors of the device."""
    if func in (aten._to_copy.default, aten.copy_.default):
        return
    if func in INDEXED:
        if not isinstance(args[0], DeviceTensor):
            raise Refused(f"{func}: indices should be either on cpu or on the device of the indexed tensor (cpu)")
        tensors = [args[0], *args[2:3]]
    strange = [t for t in tensors if not isinstance(t, DeviceTensor)]
    scalars = torch.Tag.pointwise in func.tags or "_foreach_" in func.__name__ or func in INDEXED
    if any(t.dim() or not scalars for t in strange):
        shapes = [tuple(t.shape) for t in strange]
        raise Refused(f"{func}: expected all tensors to be on the same device, but those of {shapes} are on the CPU")


def _check_generators(func: Any, args: Any, kwargs: dict[str, Any], on_device: bool) -> None:
    for generator in tree_leaves((args, kwargs)):
        if isinstance(generator, torch._C.Generator) and (generator._cdata in _generators) != on_device:
            raise Refused(f"{func}: expected a generator on the device of the tensor, but it is not")


def _note_waits(func: Any, args: Any, kwargs: dict[str, Any], on_device: bool) -> None:
    """Record an operator for which the host waits until the device has done everything before it."""
    if func in WAITS:
        _recorders[-1].note(func.__name__.partition(".")[0])
    elif func is aten._to_copy.default and isinstance(args[0], DeviceTensor) != on_device:
        if not (on_device and kwargs.get("non_blocking")):
            _recorders[-1].note("copy to the device" if on_device else "copy to the host")
    elif func is aten.copy_.default and isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor):
        if not (isinstance(args[0], DeviceTensor) and len(args) > 2 and args[2]):
            _recorders[-1].note("copy_ between host and device")
    elif func in INDEXED:
        indices = [t for t in tree_leaves(args[1]) if isinstance(t, Tensor)]
        if any(not isinstance(t, DeviceTensor) for t in indices):
            _recorders[-1].note("index on the host")
        if any(t.dtype in (torch.bool, torch.uint8) for t in indices):
            _recorders[-1].note("index by a mask")
    elif func is aten.where.self and any(not isinstance(t, DeviceTensor) for t in args):
        _recorders[-1].note("where with a number")  # which is copied to the device first


def _collective(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run a collective of tensors of the device on the backend that the process group has for it."""
    if not all(isinstance(t, DeviceTensor) for t in tree_leaves(args) if isinstance(t, Tensor)):
        return func(*args, **kwargs)  # the group says itself that it does not serve the CPU
    (boxed,) = [a for a in args if isinstance(a, torch.ScriptObject) and "ProcessGroup" in str(a._type())]
    backend = dist.ProcessGroup.unbox(boxed)._get_backend(DEVICE)
    plain = tree_map_only(DeviceTensor, lambda t: t.behind, args)
    options: Any
    if func is torch.ops.c10d.allreduce_.default:
        work = backend.allreduce(plain[0], dist.AllreduceOptions())  # a sum
    elif func is torch.ops.c10d.broadcast_.default:
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = args[2], args[3]
        work = backend.broadcast(plain[0], options)
    elif func is torch.ops.c10d.allgather_.default:
        work = backend.allgather(plain[0], plain[1])
    else:
        raise NotImplementedError(f"the pretended device has no collective {func}.")
    return args[0], work.boxed()


@contextlib.contextmanager
def _default_generator(func: Any, on_device: bool) -> Iterator[None]:
    """Draw from the device's own default generator, not from the CPU's."""
    if not on_device or torch.Tag.nondeterministic_seeded not in func.tags:
        yield
        return
    state = torch.random.default_generator.get_state()
    torch.random.default_generator.set_state(_random[0].get_state())
    try:
        yield
    finally:
        _random[0].set_state(torch.random.default_generator.get_state())
        torch.random.default_generator.set_state(state)


def _where() -> tuple[str, str]:
    """Return whether a training step is under way, and the line of the package that is being run."""
    frame, site, where = sys._getframe(2), "", "epoch"
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            site = site or f"{name[len(PACKAGE) + 1 :]}:{frame.f_lineno} {frame.f_code.co_name}"
            if frame.f_code.co_name in STEP:
                where = "step"
        frame = frame.f_back  # type: ignore[assignment]
    return where, site or "outside the package"


class _Module:
    """What torch asks of a device type that is not its own."""

    def is_available(self) -> bool:
        return False  # as an accelerator of its own: it is one only inside `pretended`

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None: ...

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Hook(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return False

    def has_primary_context(self, index: int) -> bool:
        return False

    def is_built(self) -> bool:
        return True


@cache
def _register() -> None:
    """Tell torch's C++ code of the device, once in a process; nothing is there to be seen outside `pretended`."""
    backend_registration._setup_privateuseone_for_python_backend(BEHIND, _Module(), _Hook())
    torch._C._ensureCUDADeviceGuardSet()
    torch.serialization.register_package(1, lambda s: "cuda:0" if s._cdata in _saved else None, lambda s, where: None)
    _fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, dtype in ((LOWER, None), (EXACT, torch.float32)):
        for name in names:
            _library.impl(name, _autocast(name, dtype), "AutocastPrivateUse1")


def _autocast(name: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(aten, packet), overload or "default")

    def run(*args: Any, **kwargs: Any) -> Any:
        kind = dtype or torch.get_autocast_dtype(BEHIND)

        def cast(t: Tensor) -> Tensor:
            return t.to(kind) if isinstance(t, DeviceTensor) and t.dtype in (torch.float32, torch.bfloat16) else t

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return operator(*tree_map_only(Tensor, cast, args), **tree_map_only(Tensor, cast, kwargs))

    return run


def _patch(patch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    """Put the device where Python code asks torch for one."""
    for name, value in {
        "_lazy_init": None, "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0,
        "empty_cache": None, "reset_peak_memory_stats": None, "memory_reserved": 2**28, "max_memory_reserved": 2**30,
        "is_bf16_supported": True, "is_current_stream_capturing": False, "get_device_capability": (9, 0),
        "get_device_name": "a pretended device", "set_device": None, "_is_in_bad_fork": False,
    }.items():  # fmt: skip
        patch.setattr(torch.cuda, name, lambda *a, value=value, **k: value)
    patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (recorder.free, MEMORY))
    patch.setattr(torch.cuda, "synchronize", lambda device=None: recorder.note("synchronize"))
    patch.setattr(torch.cuda, "manual_seed_all", _random[0].manual_seed)
    patch.setattr(torch.cuda, "get_rng_state", lambda device=None: _random[0].get_state())
    patch.setattr(torch.cuda, "set_rng_state", lambda state, device=None: _random[0].set_state(state))
    patch.setattr(torch.cuda, "Stream", Stream)
    patch.setattr(torch.cuda, "Event", Event)
    patch.setattr(torch.cuda, "current_stream", Stream)
    patch.setattr(torch.cuda, "CUDAGraph", Graph)
    patch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    patch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    patch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    autocast, load, run = torch.autocast, torch.load, threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def new_autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return autocast(BEHIND if device_type == "cuda" else device_type, *args, **kwargs)

    def read(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        place = torch.device(map_location)
        return tree_map_only(Tensor, lambda t: t.to(place), load(file, map_location="cpu", **kwargs))

    def run_in_thread(thread: threading.Thread) -> None:
        with _mode():
            run(thread)

    patch.setattr(torch, "Generator", Generator)
    patch.setattr(torch, "autocast", new_autocast)
    patch.setattr(torch, "load", read)
    patch.setattr(threading.Thread, "_bootstrap_inner", run_in_thread)  # `run` may be a subclass's own


class Graph:
    """Is recorded, and does nothing when it is replayed."""

    def replay(self) -> None: ...


_recorders: list[Recorder] = []
_generators: set[int] = set()
_saved: dict[int, Tensor] = {}  # what is being saved, by the address of its storage
_random = [torch.Generator()]
_fallback = torch.library.Library("_", "IMPL")
_library = torch.library.Library("aten", "IMPL")
