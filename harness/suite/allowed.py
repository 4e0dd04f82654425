"""Params that may reach PEFT, from a suite or from an adapter's own configuration.

Numbers and switches are allowed everywhere, within bounds, so that a new method needs no code here. Text is restricted,
since PEFT interprets some of it as paths, names on a hub, modules to import or regular expressions: only the params
listed here may hold text, and only of their kind.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from re import _constants as regex  # type: ignore[attr-defined]  # Python's own parser has no other name
from re import _parser  # type: ignore[attr-defined]
from typing import Any

WORDS = frozenset({
    "ab_svd_init", "act_fn", "bias", "config_A_B", "config_C", "config_D_E", "corda_method", "decomposition_method",
    "direction", "encoder_reparameterization_type", "init_lora_weights", "init_type", "init_weights", "mask_type",
    "opt_weighted_loss_type", "poly_type", "prompt_tuning_init", "psoft_svd", "scale", "variant", "wavelet_family",
})  # fmt: skip
"""Params that choose among options, which are single words."""
PATTERNS = frozenset({"exclude_modules", "feedforward_modules", "layers_pattern", "target_modules"})
"""Params whose text PEFT uses as a regular expression over the names of a network's modules."""
ELSEWHERE = frozenset({
    "adapters", "auto_map", "auto_mapping", "base_model_name_or_path", "cache_file", "covariance_file",
    "megatron_config", "megatron_core", "peft_type", "prompt_tuning_init_state_dict_path", "prompt_tuning_init_text",
    "revision", "shadow_model", "task_type", "tokenizer_kwargs", "tokenizer_name_or_path",
})  # fmt: skip
"""Params that name files, modules or models, and those that the harness sets itself."""
_AS_IT_IS = {"megatron_core": "megatron.core", "shadow_model": "mirror"}
"""Harmless defaults that PEFT itself writes for some of these."""
_LARGE = (
    "alpha", "beta", "deltaT", "final_warmup", "init_warmup", "interval", "key", "seed", "step", "tfinal", "tinit",
)  # fmt: skip
"""Suffixes of params whose size costs neither memory nor time."""
_SIZES = (
    "r", "block_num", "depth", "dim", "layers", "num_virtual_tokens", "rank", "ranks", "rank_pattern", "size", "skills",
    "splits", "tasks",
)  # fmt: skip
"""Params, and suffixes of params after a `_`, that need memory in proportion, often in every layer."""
MOST_LAYERS = 1000
"""Largest number of layers that `layer_replication` may create."""
_LARGEST_SIZE, _LARGEST_NUMBER, _LARGEST = 16_384, 1_000_000, sys.float_info.max
_LONGEST_WORD, _LONGEST_PATTERN, _MOST_ITEMS, _DEEPEST = 200, 2000, 10_000, 3
_MOST_PATTERNS = 500
"""Limit for one table: PEFT tests each pattern on each module. Python caches 512 compiled patterns."""
_LONGEST_MODULE, _MOST_STEPS, _FEW = 64, 3_000_000, 8
"""Limits for a match: steps, on a module's name of this length; they take tens of milliseconds."""

_REPEATS = (regex.MAX_REPEAT, regex.MIN_REPEAT, regex.POSSESSIVE_REPEAT)
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[\w.-]+")


def problems(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Params that are not passed to PEFT: their place, such as `rank_pattern.query`, and the reason."""
    for name, value in params.items():
        if name in ELSEWHERE:
            if value not in (None, _AS_IT_IS.get(name)):  # even an empty value makes PEFT import a module
                yield (
                    name,
                    "refers to code, files or models from elsewhere, or is set by the harness; remove it",
                )
        elif name == "layer_replication":
            yield from _replication_problems(name, value)
        else:
            yield from _problems(name, name, value, 0)


def _problems(
    place: str, name: str, value: Any, depth: int = 0, share: int = 1, *, is_listed: bool = False
) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        problem = _text_problem(name, value, share, is_listed=is_listed)
        if problem is not None:
            yield place, problem
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        most = _most(name)
        if isinstance(value, float) and not math.isfinite(value):
            yield place, f"must be a finite number, not {value}"
        elif abs(value) > most:
            yield place, f"is {str(value)[:40]}, but at most {most} is supported"
    elif isinstance(value, list | tuple | dict):
        if depth == _DEEPEST:
            yield place, f"is nested more than {_DEEPEST} levels deep"
        elif len(value) > (_MOST_PATTERNS if isinstance(value, dict) or name == "layers_pattern" else _MOST_ITEMS):
            yield place, f"has {len(value):,} items, which is too many"
        elif isinstance(value, dict):
            yield from _table_problems(place, name, value, depth + 1)
        else:
            for i, item in enumerate(value):
                yield from _problems(f"{place}[{i}]", name, item, depth + 1, len(value), is_listed=True)
    else:
        yield place, f"must be a number, a switch, text, a list or a table, not {type(value).__name__}"


def _table_problems(place: str, name: str, value: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, str]]:
    """Problems of a table by modules, such as `rank_pattern`, or of settings, such as `corda_config`."""
    for key, item in value.items():
        if not isinstance(key, str):
            yield place, "has a key that is not text"
        elif (problem := _pattern_problem(key, len(value))) is not None:
            yield place, problem
        elif key not in ELSEWHERE:
            yield from _problems(f"{place}.{key}", key if name.endswith("_config") else name, item, depth)
        elif item is not None:
            yield f"{place}.{key}", "refers to a file from elsewhere; remove it"


def _text_problem(name: str, value: str, share: int, *, is_listed: bool) -> str | None:
    """The reason why text is not passed to PEFT, or None if it is. In a list, it names modules."""
    shown = repr(value[:50])
    if name in PATTERNS and (name == "layers_pattern" or not is_listed):
        return _pattern_problem(value, share)
    if is_listed and name not in WORDS:
        if _NAME.fullmatch(value) is None or len(value) > _LONGEST_WORD:
            return f"{shown} is not the name of a module: letters, digits and _ . - only"
        return None
    if name not in WORDS:
        return f"= {shown}: text is not supported here, since it could name a file or a model"
    if _WORD.fullmatch(value) is None or len(value) > _LONGEST_WORD:
        return f"= {shown} is not one of its options, which are single words"
    return None


def _most(name: str) -> float:
    if name.endswith(_LARGE):
        return _LARGEST
    is_size = name in _SIZES or name.endswith(tuple(f"_{ending}" for ending in _SIZES))
    return _LARGEST_SIZE if is_size else _LARGEST_NUMBER


def _replication_problems(name: str, value: Any) -> Iterator[tuple[str, str]]:
    layers = replicated_layers(value)
    if layers is None:
        yield name, "must be a list of pairs of whole numbers: the first layer, and the one after the last"
    elif layers > MOST_LAYERS:
        yield name, f"yields {layers:,} layers; at most {MOST_LAYERS:,} are supported"


def replicated_layers(value: Any) -> int | None:
    """Number of layers that `layer_replication` yields, 0 where it is not set; None where it is malformed."""
    if value is None:
        return 0
    try:
        pairs = [(start, end) for start, end in value]
    except (TypeError, ValueError):
        return None
    if not all(type(number) is int and number >= 0 for pair in pairs for number in pair):
        return None
    layers: int = sum(max(0, end - start) for start, end in pairs)
    return layers


def _pattern_problem(pattern: str, share: int = 1) -> str | None:
    """The reason why a regular expression over module names is not evaluated, or None if it cannot take long.

    Args:
        share: number of patterns that are evaluated together.
    """
    if _NAME.fullmatch(pattern) and len(pattern) <= _LONGEST_WORD:
        return None
    shown = repr(pattern[:50])
    if len(pattern) > _LONGEST_PATTERN:
        return f"{shown} has {len(pattern):,} characters; a pattern may have at most {_LONGEST_PATTERN:,}"
    try:
        effort = _effort(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as problem:
        return f"{shown} is not a regular expression ({problem})"
    if effort is None or _steps(*effort) > _MOST_STEPS // share:
        return f"{shown} is a regular expression that can take very long; list the names of the modules instead"
    return None


def _steps(repeats: int, ways: int) -> int:
    """Largest number of steps of a match on a module's name; PEFT adds an open repetition before some patterns."""
    return math.comb(_LONGEST_MODULE + repeats + 1, repeats + 1) * ways


def _effort(parsed: Any) -> tuple[int, int] | None:
    """Number of a pattern's open repetitions, and of its other alternatives; None if a repeated part itself varies,
    which can take exponential time."""
    repeats, ways = 0, 1
    for kind, details in parsed:
        found: tuple[int, int] | None = (0, 1)
        if kind in _REPEATS:
            low, high, body = details
            found = _effort(body)
            if found is None or low > _MOST_ITEMS or (high > 1 and found != (0, 1)):
                return None
            found = (found[0], found[1] * (high - low + 1)) if high - low < _FEW else (found[0] + 1, found[1])
        elif kind is regex.BRANCH:
            branches = [_effort(branch) for branch in details[1]]
            if None in branches:
                return None
            both = [branch for branch in branches if branch is not None]
            found = max(one for one, _ in both), sum(other for _, other in both)
        elif kind in (regex.SUBPATTERN, regex.ASSERT, regex.ASSERT_NOT):
            found = _effort(details[-1])
        elif kind is regex.ATOMIC_GROUP:
            found = _effort(details)
        elif kind in (regex.GROUPREF, regex.GROUPREF_EXISTS):
            return None
        if found is None:
            return None
        repeats, ways = repeats + found[0], ways * found[1]
    return repeats, ways
