"""Networks whose frozen weights stay in memory as their file has them, and are widened while they are multiplied.

    network, report = own_format.load(AutoModelForCausalLM, folder)
    network(…)                              # in float32
    network = own_format.rounded(network, torch.bfloat16)
    network(…)                              # in bfloat16
    network = own_format.widened(network)   # plain layers with weights in float32, as before a merge

The weights of linear layers and embeddings, which nothing trains beneath an adapter or a head, stay in bfloat16 if the
file has them so, or in nf4 if the base is declared so. Every bfloat16 is a float32, so answers and gradients are the
same, bit for bit, as of a network that was loaded in float32, in half of its memory. Backward passes widen the weights
again: no copy of them is kept. Everything else, such as norms, biases and heads, is in float32.

The widened weights of a large layer are made in parts, along a dimension that is not summed over, so that the parts'
products are those of the whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.core_model_loading import ConversionOps
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from harness.errors import RunError
from harness.models import device, nf4, weight_files

AT_ONCE = 2**20
"""Numbers of a layer's weights that are widened at a time: 4 MiB, where an output layer may take gigabytes."""
_MULTIPLE = 64
"""Rows or columns of a part are a multiple of this, so that kernels compute them as they do in the whole."""
_NAME = "adapter-harness"

_rooms: dict[torch.device, torch.Tensor] = {}


def is_bf16(folder: Path) -> bool:
    """Report whether all numbers of a base's weights are bfloat16."""
    return weight_files.formats(folder, str(folder)) == {"BF16"}


_unread: list[bool] = []
"""Not empty where weights are read for their format alone."""


@contextmanager
def formats_alone() -> Iterator[None]:
    """Have weights that are kept read as nan within the block: PEFT asks each layer for its format and device, and
    widening them all for that leaves the heap full of holes."""
    _unread.append(True)
    try:
        yield
    finally:
        _unread.pop()


# Layers


class _Kept(torch.nn.Module):
    """A layer that keeps its weights as bits: integers, which no change of a network's number format touches."""

    bits: torch.nn.Parameter
    dtype: torch.dtype = torch.float32
    """Format of the numbers that the layer gives, and that its weights have for who reads them."""

    @property
    def weight(self) -> torch.Tensor:
        """The weights as numbers, made anew whenever they are read. Changing them has no effect."""
        if _unread:
            shape = self.bits.shape if type(self) is not Packed else (self.out_features, self.in_features)
            return torch.full((1, 1), torch.nan, dtype=self.dtype, device=self.bits.device).expand(shape)
        return self.wide(self.dtype)

    def wide(self, dtype: torch.dtype) -> torch.Tensor:
        """The weights as numbers of a format."""
        return self.bits.view(torch.bfloat16).to(dtype)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(given.device.type):
            given = given.to(torch.get_autocast_dtype(given.device.type))
        if given.requires_grad and torch.is_grad_enabled():
            found: torch.Tensor = _Product.apply(given, self)  # type: ignore[no-untyped-call]  # untyped there
            return found
        return self.product(given)

    def product(self, given: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        return torch.nn.functional.linear(given, self.wide(given.dtype), self._bias(given.dtype))

    def gradient(self, of_output: torch.Tensor) -> torch.Tensor:
        """The gradient of the layer's input from that of its output, shape (rows, outputs) or (…, rows, outputs)."""
        return _product(of_output, self.wide(of_output.dtype))

    def _bias(self, dtype: torch.dtype) -> torch.Tensor | None:
        bias: torch.Tensor | None = self._parameters["bias"]
        return None if bias is None else bias.to(dtype)


class _Product(torch.autograd.Function):
    """A layer's output, whose backward pass widens the weights again."""

    @staticmethod
    def forward(context: Any, given: torch.Tensor, layer: _Kept) -> torch.Tensor:
        context.layer, context.in_batches = layer, _is_in_batches(given, layer)
        return layer.product(given)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (of_output,) = gradients
        rows = of_output if context.in_batches else of_output.reshape(-1, of_output.shape[-1])
        found = context.layer.gradient(rows)
        return found.reshape(*of_output.shape[:-1], found.shape[-1]), None


def _is_in_batches(given: torch.Tensor, layer: _Kept) -> bool:
    """Report whether torch multiplies each text's rows by themselves, which rounds otherwise than all rows together.

    It does so for some strides, such as those of each text's first token, and is asked in a trial without numbers.
    """
    strides, shape = given.stride(), given.shape
    is_plain = all(strides[i] == strides[i + 1] * shape[i + 1] for i in range(given.dim() - 1))
    if given.dim() < 3 or is_plain or isinstance(layer, Conv1D):
        return False
    if given.is_contiguous() and layer._parameters["bias"] is not None:
        return False
    with torch.enable_grad():
        like = torch.empty_strided(given.shape, given.stride(), device="meta").requires_grad_()
        found: Any = torch.nn.functional.linear(like, torch.empty(1, given.shape[-1], device="meta"))
    return any(
        "Bmm" in type(one).__name__ for one in (found.grad_fn, *(one for one, _ in found.grad_fn.next_functions))
    )


class Linear(_Kept, torch.nn.Linear):  # type: ignore[override]  # weights are made, not held
    """A linear layer with weights in bfloat16, widened in parts."""

    def product(self, given: torch.Tensor) -> torch.Tensor:
        narrow, bias = self.bits.view(torch.bfloat16), self._bias(given.dtype)

        def part(rows: slice) -> torch.Tensor:
            of_rows = None if bias is None else bias[rows]
            return torch.nn.functional.linear(given, _widened(narrow[rows], given.dtype), of_rows)

        return _joined(part, *_parts(narrow.shape[0], narrow.shape[1]))

    def gradient(self, of_output: torch.Tensor) -> torch.Tensor:
        narrow = self.bits.view(torch.bfloat16)
        columns = _parts(narrow.shape[1], narrow.shape[0])
        return _joined(lambda part: _product(of_output, _widened(narrow[:, part], of_output.dtype)), *columns)


class Transposed(_Kept, Conv1D):  # type: ignore[misc]  # weights are made, not held
    """GPT-2's linear layer, whose weights are stored by input, in bfloat16."""

    def product(self, given: torch.Tensor) -> torch.Tensor:
        wide, bias = self.wide(given.dtype), self._bias(given.dtype)
        assert bias is not None
        return torch.addmm(bias, given.reshape(-1, given.shape[-1]), wide).reshape(*given.shape[:-1], self.nf)

    def gradient(self, of_output: torch.Tensor) -> torch.Tensor:
        return of_output @ self.wide(of_output.dtype).t()


class Embedding(_Kept, torch.nn.Embedding):  # type: ignore[override]  # weights are made, not held
    """An embedding with weights in bfloat16, of which only those that are looked up are widened."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        narrow = self.bits.view(torch.bfloat16)
        return torch.nn.functional.embedding(given, narrow, self.padding_idx).to(self.dtype)


class Packed(_Kept, torch.nn.Linear):  # type: ignore[override]  # weights are made, not held
    """A linear layer with weights in nf4."""

    scales: torch.nn.Parameter
    """Scales of the blocks as bits of float32."""

    def wide(self, dtype: torch.dtype) -> torch.Tensor:
        shape = self.out_features, self.in_features
        return nf4.dequantised(self.bits, self.scales.view(torch.float32), shape, dtype)


_KEEPING: dict[type, type[_Kept]] = {torch.nn.Linear: Linear, torch.nn.Embedding: Embedding, Conv1D: Transposed}


def _product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows times weights: all together, or for more than two dimensions by batches."""
    if rows.dim() == 2:
        return rows @ weight
    of_batch = rows.reshape(-1, *rows.shape[-2:])
    return torch.bmm(of_batch, weight.expand(len(of_batch), *weight.shape)).reshape(*rows.shape[:-1], -1)


def _parts(size: int, other: int) -> Iterator[slice]:
    """Parts of a dimension of weights, whose other dimension is whole."""
    step = max(_MULTIPLE, AT_ONCE // other // _MULTIPLE * _MULTIPLE)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _joined(of_part: Callable[[slice], torch.Tensor], *parts: slice) -> torch.Tensor:
    """Results for parts of the last dimension, written into one as they are made."""
    first = of_part(parts[0])
    if len(parts) == 1:
        return first
    whole = first.new_empty(*first.shape[:-1], parts[-1].stop)
    whole[..., parts[0]] = first
    del first
    for part in parts[1:]:
        whole[..., part] = of_part(part)
    return whole


def _widened(narrow: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Weights in another format, valid until the next ones are widened.

    All layers share the memory. Blocks of their own would leave holes of many sizes in the heap, which add up to a
    quarter of the weights.
    """
    if dtype != torch.float32:
        return narrow.to(dtype)
    room = _rooms.get(narrow.device)
    if room is None or room.numel() < narrow.numel():
        with torch.inference_mode(False):
            _rooms[narrow.device] = room = torch.empty(max(narrow.numel(), AT_ONCE), device=narrow.device)
    return room[: narrow.numel()].view(narrow.shape).copy_(narrow)


# Loading


def load(auto: Any, folder: Path, *, keeps: bool = True, **given: Any) -> tuple[Any, Any]:
    """Load a network from a base's folder, in evaluation mode, computing in float32.

    Args:
        auto: class of transformers that loads it.
        keeps: weights stay in the format of the file, or in nf4; False for a caller that changes or trains them.
        given: further arguments of the class.

    Returns:
        The network, and the library's report on the loading.

    Raises:
        RunError: it does not fit into memory, or is to be changed and declared in nf4.
    """
    is_packed = nf4.is_asked(folder)
    if is_packed and not keeps:
        raise RunError(
            f"{folder}: the base is declared with quantisation = 'nf4', and weights in 4 bits cannot be changed or "
            "trained; train a LoRA beside them, or declare the base without quantisation"
        )
    keeps = is_packed or (keeps and is_bf16(folder))
    _check_memory(auto, folder, keeps=keeps, is_packed=is_packed)
    return auto.from_pretrained(  # type: ignore[no-any-return]  # transformers' Auto classes are untyped
        folder,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        **({"quantization_config": _Config(folder)} if keeps else {}),
        **given,
    )


def _check_memory(auto: Any, folder: Path, *, keeps: bool, is_packed: bool) -> None:
    n_numbers, of_one = weight_files.count(folder), 2 if keeps and is_bf16(folder) else 4
    if not is_packed:
        device.check_memory(n_numbers, n_numbers * of_one, f"in {8 * of_one} bits each", folder)
        return
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        sizes = [module.weight.numel() for module in _packable(auto.from_config(config))]
    if not sizes:
        raise RunError(
            f"{folder}: a {config.model_type} has no linear layers that could be in nf4; declare the base without "
            "quantisation"
        )
    n_bytes = sum(map(nf4.n_bytes, sizes)) + of_one * (n_numbers - sum(sizes))
    how = f"with {sum(sizes):,} of them in nf4 and the others in {8 * of_one} bits each"
    device.check_memory(n_numbers, n_bytes, how, folder)


def _packable(model: Any) -> Iterator[Any]:
    """The linear layers of a network's base, without heads and the output layer."""
    for module in model.base_model.modules():
        if type(module) is torch.nn.Linear and module is not model.get_output_embeddings():
            yield module


class _Config(QuantizationConfigMixin):
    """Names the loader below to transformers."""

    def __init__(self, folder: Path) -> None:
        named: Any = _NAME  # any registered name will do
        self.quant_method = named
        self.folder = folder


@register_quantizer(_NAME)
class _Loader(HfQuantizer):
    """Loads each weight in the format in which it is kept, one tensor at a time."""

    is_trainable = True
    quantization_config: Any

    def is_serializable(self) -> bool:
        return False

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> Any:
        """Mark the formats, in a network that has no memory yet."""
        folder, packed = self.quantization_config.folder, set()
        if nf4.is_asked(folder):
            for module in _packable(model):
                module.is_packed = True
                packed.add(module)
        if is_bf16(folder):
            for module in {*model.base_model.modules(), model.get_output_embeddings()} - packed:
                if type(module) in _KEEPING and getattr(module, "max_norm", None) is None:
                    module.weight = torch.nn.Parameter(module.weight.bfloat16(), requires_grad=False)
        return model

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        path, name = param_name.rpartition(".")[::2]
        return name == "weight" and hasattr(model.get_submodule(path), "is_packed")

    def get_quantize_ops(self) -> "_Pack":
        return _Pack()

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        self.remove_quantization_config(model)  # type: ignore[no-untyped-call]  # untyped there
        for module in model.modules():
            if hasattr(getattr(module, "config", None), "_is_quantized"):
                del module.config._is_quantized
        model.config.get_text_config().use_cache = False  # else keys and values of every layer stay in memory
        return _keeping(model)


class _Pack(ConversionOps):
    """Quantises a weight that was read."""

    def convert(self, input_dict: Any, *_: Any, model: Any = None, **__: Any) -> Any:
        """Replace a weight by its packed form, whose scales are put beside it."""
        ((name, given),) = input_dict.items()
        weight = given[0] if isinstance(given, list) else given
        layer = model.get_submodule(name.rpartition(".")[0])
        if weight.shape != layer.weight.shape:
            raise ValueError(f"{name} has the shape {tuple(weight.shape)} where {tuple(layer.weight.shape)} belongs")
        packed, scales = nf4.quantised(weight)
        layer.scales = _bits(scales.view(torch.uint8))
        return {name: packed}


def _bits(tensor: torch.Tensor) -> torch.nn.Parameter:
    made: Any = torch.nn.Parameter(tensor, requires_grad=False)
    made._is_hf_initialized = True  # transformers would draw it anew
    return made  # type: ignore[no-any-return]


def _keeping(model: Any) -> Any:
    """Make layers of those whose weights were loaded to be kept; tied weights stay one tensor."""
    made: dict[int, tuple[torch.Tensor, torch.nn.Parameter]] = {}
    for module in model.modules():
        weight = module._parameters.get("weight")
        is_packed = module.__dict__.pop("is_packed", False)
        if weight is None or not (is_packed or weight.dtype == torch.bfloat16):
            continue
        if not is_packed and type(module) not in _KEEPING:  # tied to one that is kept
            module.weight = torch.nn.Parameter(weight.detach().float(), requires_grad=False)
            continue
        if id(weight) not in made:
            made[id(weight)] = weight, _bits(weight.detach() if is_packed else weight.detach().view(torch.int16))
        del module._parameters["weight"]
        module.__class__ = Packed if is_packed else _KEEPING[type(module)]
        module.bits = made[id(weight)][1]
    return model


# Other formats


def is_kept(network: Any) -> bool:
    """Report whether a network has layers that keep their weights."""
    return any(isinstance(module, _Kept) for module in network.modules())


def is_packed(network: Any) -> bool:
    """Report whether a network has layers in 4 bits."""
    return any(isinstance(module, Packed) for module in network.modules())


def n_numbers(network: Any) -> int:
    """Number of a network's parameters, where those in 4 bits count as the weights that they stand for."""
    packed = [module for module in network.modules() if isinstance(module, Packed)]
    others = {id(one) for module in packed for one in (module.bits, module.scales)}
    plain: int = sum(one.numel() for one in network.parameters() if id(one) not in others)
    return plain + sum(module.in_features * module.out_features for module in packed)


def rounded(network: Any, dtype: torch.dtype) -> Any:
    """The network in another number format, in place. Weights that are kept in it become plain ones."""
    network.to(dtype)
    for module in network.modules():
        if isinstance(module, Packed):
            module.dtype = dtype
    return network if dtype == torch.float32 else _plain(network, lambda kept: kept.wide(dtype))


def widened(network: Any) -> Any:
    """The network with plain weights in float32, in place.

    Raises:
        RunError: some of them are in 4 bits.
    """
    if is_packed(network):
        raise RunError("a base in 4 bits (nf4) cannot be merged or converted; use torch, which leaves it as it is")
    return _plain(network, lambda kept: kept.wide(torch.float32))


def _plain(network: Any, weight_of: Callable[[_Kept], torch.Tensor]) -> Any:
    plain = {kept: kind for kind, kept in _KEEPING.items()}
    made: dict[int, tuple[torch.Tensor, torch.nn.Parameter]] = {}
    for module in network.modules():
        if type(module) in plain:
            bits = module.bits
            if id(bits) not in made:
                made[id(bits)] = bits, torch.nn.Parameter(weight_of(module), requires_grad=False)
            del module._parameters["bits"]
            module.__class__ = plain[type(module)]
            module.weight = made[id(bits)][1]
    return network
