"""An accelerator for machines without one: it computes on the processor, and refuses to be mixed with it.

PyTorch lets a backend be written in Python. A tensor of this one holds another that lies in the processor's memory, and
every operation is done with that. So numbers are the processor's, and a tensor that was left behind is found as on a
real device: by an error of the operation that mixes the two.

The device can only be added to a process that has not run a backward pass. `isolated` runs a test in a fork of a server
that has not.
"""

import functools
import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

from tests.processes import FORKS

NAME = "standin"
ACROSS = ("aten::copy_", "aten::_to_copy", "aten::_copy_from")
"""Operations that take a tensor from one device to another."""
READS = ("aten::_local_scalar_dense", "aten::item")
"""Operations for whose result a device must be waited for, besides copies to the processor."""
_DATA: Any = torch.Tensor.data
_kept: list[Any] = []
_limits: dict[str, int] = {}


class OnStandIn(torch.Tensor):
    """A tensor on the stand-in."""

    held: torch.Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, requires_grad: bool = False) -> "OnStandIn":
        made: OnStandIn = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
            requires_grad=requires_grad,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})

    @property
    def data(self) -> Any:
        """The numbers without their history; a module that gets another format sets them."""
        return _DATA.__get__(self)

    @data.setter
    def data(self, new: Any) -> None:
        self.held = new.held
        _DATA.__set__(self, new)

    def tolist(self) -> Any:
        """Numbers of the tensor; torch refuses that for subclasses, but not for devices."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.held!r} on {NAME}"


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation with the tensors that are held."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        return func.decompose(*args, **kwargs)  # without gradients, such operations arrive whole
    name, given = func._schema.name, tree_leaves((args, kwargs))
    if name not in ACROSS and any(_is_left_behind(one) for one in given):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! ({name})"
        )
    target = kwargs.get("device")
    is_read = name in READS or (target is not None and torch.device(target).type == "cpu")
    if is_read and _caller().startswith("harness."):
        _limits["reads"] = _limits.get("reads", 0) + 1
    stays = target is None or torch.device(target).type == NAME
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu") if stays else target, "pin_memory": None}
    mine = {id(one.held): one for one in given if isinstance(one, OnStandIn)}
    found = func(*_held(args), **_held(kwargs))
    if name == "aten::copy_":
        return args[0]
    _check_limit(found)
    return tree_map(lambda one: mine[id(one)] if id(one) in mine else _wrapped(one) if stays else one, found)


def _caller() -> str:
    """The module that asked for an operation, torch and this one aside."""
    frame: Any = sys._getframe(1)
    while (name := frame.f_globals.get("__name__", "")).partition(".")[0] == "torch" or name == __name__:
        frame = frame.f_back
    return str(name)


def _is_left_behind(one: Any) -> bool:
    return isinstance(one, torch.Tensor) and not isinstance(one, OnStandIn) and one.dim() > 0


def _held(values: Any) -> Any:
    return tree_map(lambda one: one.held if isinstance(one, OnStandIn) else one, values)


def _wrapped(one: Any) -> Any:
    if not isinstance(one, torch.Tensor):
        return one
    with torch.inference_mode(False):  # a view of a tensor from outside the block counts its versions
        return OnStandIn(one)


def _check_limit(found: Any) -> None:
    limit = _limits.get("numbers")
    if limit is not None and any(isinstance(one, torch.Tensor) and one.numel() > limit for one in tree_leaves(found)):
        _limits["refused"] = _limits.get("refused", 0) + 1
        raise torch.OutOfMemoryError(f"{NAME} out of memory")


def limit(numbers: int | None) -> None:
    """Have the device run out of memory for a tensor of more numbers."""
    _limits.clear()
    if numbers is not None:
        _limits["numbers"] = numbers


def refused() -> int:
    """Tensors for which the memory did not suffice, since the limit was set."""
    return _limits.get("refused", 0)


def reads() -> int:
    """Times that the harness itself read numbers from the device, for which it had to be waited for.

    transformers reads each batch's mask besides.
    """
    return _limits.get("reads", 0)


class _Module(backend_registration._DummyBackendModule):
    """`torch.standin`: what torch asks a device about itself."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: Any = None) -> None:
        _limits["synchronised"] = 1

    def get_device_name(self, device: Any = None) -> str:
        return "Stand-in"

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def empty_cache(self) -> None:
        _limits["released"] = 1


def register() -> None:
    """Add the device to this process."""
    if _kept:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library: Any = torch.library.Library
    anything, aten = library("_", "IMPL"), library("aten", "IMPL")
    anything.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    anything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    aten.impl("empty.memory_format", _empty, "PrivateUse1")
    aten.impl("empty_strided", _empty_strided, "PrivateUse1")
    aten.impl("_copy_from", _copy_from, "PrivateUse1")
    _kept.extend((anything, aten))


def _empty(size: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return OnStandIn(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return OnStandIn(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _held(target).copy_(_held(source))
    return target


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a new process that has the stand-in; on a real device, a test runs there as well."""

    @functools.wraps(test)
    def runs(**given: Any) -> None:
        if given.get("kind", NAME) not in (NAME, "cpu") and not torch.accelerator.is_available():
            pytest.skip(f"not run on {given['kind']}: torch {torch.__version__} finds no accelerator here")
        receiver, sender = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_child, args=(test.__module__, test.__qualname__, given, sender))
        process.start()
        sender.close()
        try:
            problem = receiver.recv()
        except EOFError:
            problem = "the process died"
        process.join()
        if problem is not None:
            pytest.fail(problem, pytrace=False)

    return runs


def _child(module: str, name: str, given: dict[str, Any], sender: Any) -> None:
    torch.set_num_threads(1)
    try:
        if given.get("kind", NAME) == NAME:
            register()
        getattr(importlib.import_module(module), name).__wrapped__(**given)
    except BaseException:  # noqa: BLE001 (whatever it is, the test failed)
        sender.send(traceback.format_exc())
    else:
        sender.send(None)


KINDS = [NAME, pytest.param("cuda", marks=pytest.mark.accelerator)]
"""Devices of tests that run on a real one as well, where there is one."""
