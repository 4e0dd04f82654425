"""Devices: the one place that knows on which kind of device a network computes, and what follows from the kind.

    kind = device.resolve("auto")           # cpu, cuda, mps: a string that travels with jobs to workers
    network = device.place(network, kind)   # on the processor nothing is moved
    batch = device.put(batch, device.of(network))

The processor is the reference. Placement, autocast, attention kernel, number formats, memory, generators and
synchronised timing are asked here; a test over syntax trees refuses names of devices elsewhere. torch is imported by
the functions that need it, since planning asks for no more than the name.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness import provenance
from harness.errors import RunError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
AUTO, PROCESSOR = "auto", "cpu"
KINDS = (PROCESSOR, "cuda", "mps")
"""Kinds that can be named anywhere; another one, if the installed torch reports it as this machine's accelerator."""
VARIABLE = "HARNESS_DEVICE"
TOKENS_PER_PASS = 32_768
"""Padded tokens in an accelerator's first forward pass; halved as often as its memory does not suffice."""
STEPS_UNREAD = 16
"""Steps of a training after which losses are read from an accelerator."""
_SIGNS = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/accel", "/dev/davinci0")
"""Device files of accelerators on Linux. Without any, the second that importing torch takes is saved."""
_WITHOUT_FLOAT64 = ("mps",)


def resolve(wanted: str | None) -> str:
    """The kind of device that a word names.

    Args:
        wanted: a kind or `auto`; None for `HARNESS_DEVICE`, or the processor where that is unset.

    Raises:
        UsageError: there is no such kind.
    """
    word = wanted or os.environ.get(VARIABLE) or PROCESSOR
    if word == AUTO:
        return accelerator() or PROCESSOR
    if word not in KINDS and word != accelerator():
        raise UsageError(f"--device {word}: unknown kind of device; choose one of {', '.join((AUTO, *KINDS))}")
    return word


def accelerator() -> str | None:
    """The kind of this machine's accelerator, according to torch; None if there is none."""
    is_linux = sys.platform.startswith("linux")
    if is_linux and "torch" not in sys.modules and not any(Path(sign).exists() for sign in _SIGNS):
        return None
    try:
        import torch
    except ImportError:
        return None
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if found is None else found.type


def check_present(kind: str) -> None:
    """Check that this machine has a device, before anything is computed on it.

    Raises:
        UsageError: it has none of this kind.
    """
    if kind != PROCESSOR and kind != accelerator():
        import torch

        has = accelerator() or "no accelerator"
        raise UsageError(
            f"--device {kind}: torch {torch.__version__} finds {has} on this machine; install a torch that supports "
            f"it, or choose --device {PROCESSOR}"
        )


def for_key(kind: str) -> str | None:
    """A kind as keys contain it: None for the processor, whose keys do not mention devices."""
    return None if kind == PROCESSOR else kind


def described(kind: str) -> dict[str, str | int]:
    """The accelerator of this process, for a run's record; empty on the processor, which is recorded anyway."""
    if kind == PROCESSOR:
        return {}
    found: dict[str, str | int] = {"device": kind}
    if kind == accelerator():
        import torch

        module: Any = torch.get_device_module(kind)
        found["devices"] = int(module.device_count())
        if hasattr(module, "get_device_name"):
            found["device_name"] = str(module.get_device_name())
        if torch.version.cuda and kind == "cuda":
            found["cuda"] = torch.version.cuda
        if driver := provenance.accelerators().get("driver"):
            found["driver"] = driver
    return found


# Placement


def is_processor(where: "torch.device") -> bool:
    """True for the processor, where the speed-ups hold that were proven there alone."""
    return where.type == PROCESSOR


def of(network: Any) -> "torch.device":
    """The device on which a network computes."""
    import torch

    found = next(network.parameters(), None) if isinstance(network, torch.nn.Module) else None
    return torch.device(PROCESSOR) if found is None else found.device


def place(network: T, kind: str) -> T:
    """Move a network to a device of a kind; on the processor it stays as it is.

    Raises:
        RunError: this machine has no such device, or its memory does not suffice.
    """
    if kind == PROCESSOR:
        return network
    import torch

    if kind != accelerator():
        raise RunError(f"this machine has no device of the kind {kind!r}; choose --device {PROCESSOR}")
    moving: Any = network
    n_bytes = sum(one.numel() * one.element_size() for one in (*moving.parameters(), *moving.buffers()))
    free = free_bytes(kind)
    if free is not None and n_bytes > free:
        raise RunError(
            f"the network takes {n_bytes / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB of the device's memory are free; "
            f"choose a smaller base, end what else uses the device, or choose --device {PROCESSOR}"
        )
    _prepare(kind)
    return moving.to(torch.device(kind))  # type: ignore[no-any-return]  # the same network


def _prepare(kind: str) -> None:
    if kind == "cuda":  # read when cuBLAS is first used; without it, its sums may differ from run to run
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def put(batch: "Mapping[str, torch.Tensor]", where: "torch.device") -> "dict[str, torch.Tensor]":
    """A batch on a device. To an accelerator with its own memory it is copied while the device still computes."""
    if is_processor(where):
        return dict(batch)
    pins = where.type == "cuda"
    return {
        name: (tensor.pin_memory() if pins else tensor).to(where, non_blocking=pins) for name, tensor in batch.items()
    }


def bring_home(network: T) -> T:
    """Move a network to the processor's memory; one that is there stays as it is."""
    moving: Any = network
    if not is_processor(of(network)):
        moving = moving.to(PROCESSOR)
    return moving  # type: ignore[no-any-return]  # the same network


def home(tensor: "torch.Tensor") -> "torch.Tensor":
    """A result in the processor's memory."""
    return tensor.to(PROCESSOR)


def double(tensor: "torch.Tensor") -> "torch.Tensor":
    """A tensor in float64, in the processor's memory if its device has no such numbers."""
    return (home(tensor) if tensor.device.type in _WITHOUT_FLOAT64 else tensor).double()


# Number formats and kernels


def training_precision(kind: str) -> str:
    """The precision that `auto` means for training: the fastest with fp32 master weights.

    Where the device is not on this machine, as when stored runs are only read, a current one is assumed.
    """
    if kind == PROCESSOR:
        return "bf16" if provenance.has_fast_bf16() else "fp32"
    if kind == "cuda":
        import torch

        is_there = kind == accelerator()
        return "bf16" if not is_there or torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"


def check_precision(kind: str, precision: str) -> None:
    """Check that training in a precision is possible.

    Raises:
        RunError: it is fp16 on the processor.
    """
    if precision == "fp16" and kind == PROCESSOR:
        raise RunError("precision = 'fp16' needs an accelerator; on the processor choose bf16, fp32 or auto")


def has_fast_bf16(kind: str) -> bool:
    """True if the device multiplies bfloat16 in hardware, as far as is known without asking it."""
    return provenance.has_fast_bf16() if kind == PROCESSOR else training_precision(kind) == "bf16"


def autocast(where: "torch.device", precision: str) -> AbstractContextManager[Any]:
    """Multiply in bf16 or fp16 within the block, with weights in float32; no effect with fp32."""
    import torch

    formats = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in formats:
        return torch.autocast(where.type, torch.bfloat16, enabled=False)
    return torch.autocast(where.type, formats[precision])


def scaler(where: "torch.device", precision: str) -> Any:
    """Scale losses so that gradients in fp16 do not vanish; None for other formats, which need none."""
    import torch

    return torch.amp.GradScaler(where.type) if precision == "fp16" else None


def training_attention(kind: str) -> str:
    """The attention kernel for training: eager has the faster backward pass for short texts on a processor."""
    return "eager" if kind == PROCESSOR else "sdpa"


# Memory


def tokens_per_pass(where: "torch.device", on_processor: int) -> int:
    """Padded tokens to begin with in one pass."""
    return on_processor if is_processor(where) else TOKENS_PER_PASS


def steps_unread(where: "torch.device") -> int:
    """Steps of a training whose losses stay on the device before they are read. To read one there is to wait for it."""
    return 1 if is_processor(where) else STEPS_UNREAD


def free_bytes(kind: str) -> int | None:
    """Free memory of an accelerator; None if it does not report it."""
    import torch

    if kind != accelerator():
        return None
    if kind == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    module: Any = torch.get_device_module(kind)
    return int(module.mem_get_info()[0]) if hasattr(module, "mem_get_info") else None


def check_memory(n_numbers: int, n_bytes: int, how: str, what: Path) -> None:
    """Check that a network's weights fit into this machine's memory, before they are loaded.

    Args:
        n_numbers: number of weights.
        n_bytes: bytes that they take.
        how: their format, in words.

    Raises:
        RunError: they do not.
    """
    has = memory_bytes()
    if has is not None and n_bytes > has:
        raise RunError(
            f"{what}: its {n_numbers:,} weights take {n_bytes / 2**30:.1f} GiB {how}, but this machine has "
            f"{has / 2**30:.1f} GiB of memory; choose a smaller base or a larger machine"
        )


def memory_bytes() -> int | None:
    """Memory of this machine, or of the container that it is shared among; None if the system does not report it."""
    try:
        has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            has = min(has, int(Path(limit).read_text(encoding="utf-8")))
    return has


def release(where: "torch.device") -> None:
    """Return cached blocks to the device after its memory did not suffice."""
    import torch

    module: Any = torch.get_device_module(where)
    if not is_processor(where) and hasattr(module, "empty_cache"):
        module.empty_cache()


def peak_bytes(where: "torch.device") -> int | None:
    """Largest allocation of an accelerator in this process; None on the processor and where it is not counted."""
    import torch

    module: Any = torch.get_device_module(where)
    counts = not is_processor(where) and hasattr(module, "max_memory_allocated")
    return int(module.max_memory_allocated()) if counts else None


# Time and random numbers


def synchronise(where: "torch.device") -> None:
    """Wait until a device has computed everything it was given, so that a clock can be read."""
    import torch

    if not is_processor(where):
        torch.get_device_module(where).synchronize()


def synchronise_kind(kind: str) -> None:
    """Do the same for a kind of device; no effect on the processor, or where it is not on this machine."""
    if kind != PROCESSOR and kind == accelerator():
        import torch

        synchronise(torch.device(kind))


@contextmanager
def own_generator(kind: str) -> Iterator[None]:
    """Restore the state of an accelerator's random numbers after the block; the processor's is restored by others."""
    if kind == PROCESSOR or kind != accelerator():
        yield
        return
    before = generator(kind)
    try:
        yield
    finally:
        set_generator(kind, before)


def generator(kind: str) -> "dict[str, torch.Tensor]":
    """State of an accelerator's random numbers, by name; empty on the processor."""
    import torch

    module: Any = None if kind == PROCESSOR else torch.get_device_module(kind)
    return {"device": module.get_rng_state()} if hasattr(module, "get_rng_state") else {}


def set_generator(kind: str, state: "Mapping[str, torch.Tensor]") -> None:
    """Restore the result of `generator`."""
    import torch

    if "device" in state and kind != PROCESSOR:
        module: Any = torch.get_device_module(kind)
        module.set_rng_state(state["device"])


def deterministic(kind: str) -> AbstractContextManager[Any]:
    """Have torch choose deterministic algorithms within the block, as far as a kind of device has them.

    The processor has all that training needs. An accelerator lacks some: torch then warns, and does without.
    """
    return _deterministic(warns=kind != PROCESSOR)


@contextmanager
def _deterministic(*, warns: bool) -> Iterator[None]:
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=warns)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
