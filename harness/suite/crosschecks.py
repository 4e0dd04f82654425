"""Checks across the tables of a suite file, on the raw tables, so that problems are listed despite wrong shapes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from harness.artifacts import plugins
from harness.errors import closest
from harness.suite import allowed
from harness.suite.fields import LONGEST_ID
from harness.suite.gates import SLICE_VALUES
from harness.suite.models import BACKEND_NAMES
from harness.suite.schema import NULL_SUFFIX, WITHOUT_PEFT
from harness.suite.splits import SOURCE_NAMES

_TABLES = ("split", "base", "adapter", "prompt", "model", "metric", "gate", "expect", "curve")


def problems(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Problems across the tables of a raw suite, as place and message."""
    tables = {name: _tables(data, name) for name in _TABLES}
    ids: dict[str, set[str]] = {}
    for name, rows in tables.items():
        key = "name" if name == "metric" else "id"
        named = [_text(row, key) for row in rows]
        ids[name] = set()
        for position, value in enumerate(named):
            if value is not None and value in ids[name]:
                yield f"{name}[{position}].{key}", f"{value!r} is already taken"
            elif value is not None:
                ids[name].add(value)

    for position, row in enumerate(tables["model"]):
        if (problem := plugins.shadowing("backend", row.get("backend"), BACKEND_NAMES)) is not None:
            yield f"model[{position}].backend", problem
    for position, row in enumerate(tables["split"]):
        for key in ("unlabelled", "perturb"):
            if row.get(key) and _text(row, "id") in _trained_on(tables):
                yield f"split[{position}].{key}", "is for splits that are scored, and this one is used for training"
        if (problem := plugins.shadowing("source", row.get("source"), SOURCE_NAMES)) is not None:
            yield f"split[{position}].source", problem

    with_null = {_text(adapter, "id") for adapter in tables["adapter"] if "null_seeds" in _table(adapter, "train")}
    for name, key in (("adapter", "id"), ("model", "adapter")):
        for position, row in enumerate(tables[name]):
            if _text(row, key) in with_null and (own := _text(row, "id")) is not None:
                null = own + NULL_SUFFIX
                if null in ids[name]:
                    yield f"{name}[{position}].id", f"its null would be called {null!r}, which is already taken"
                elif len(null) > LONGEST_ID:
                    yield (
                        f"{name}[{position}].id",
                        f"is too long for its null, {null!r}: at most {LONGEST_ID} characters",
                    )
                ids[name].add(null)
    known = {name: _some(sorted(found)) for name, found in ids.items()}

    def dangling(place: str, table: str, value: str | None) -> Iterator[tuple[str, str]]:
        unreadable = table in data and not isinstance(data[table], list)
        if value is not None and value not in ids[table] and not unreadable:
            what = f"known: {known[table]}" if ids[table] else f"no {table} is declared"
            yield place, f"there is no {table} {value!r}{closest(value, sorted(ids[table]))} ({what})"

    trained_on = _trained_on(tables)
    in_nf4 = {_text(base, "id") for base in tables["base"] if base.get("quantisation") == "nf4"}
    for i, adapter in enumerate(tables["adapter"]):
        if (method := _text(adapter, "method")) in WITHOUT_PEFT and (base := _text(adapter, "base")) in in_nf4:
            yield (
                f"adapter[{i}].method",
                f"{method!r} saves the whole model, and weights of base {base!r} are in nf4, 4 bits; train a LoRA, or "
                "declare the base without quantisation",
            )
        for place, message in allowed.problems(_table(adapter, "params")):
            yield f"adapter[{i}].params.{place}", message
        yield from dangling(f"adapter[{i}].base", "base", _text(adapter, "base"))
        yield from dangling(f"adapter[{i}].train.split", "split", _text(_table(adapter, "train"), "split"))
        for place, prompt in _listed(f"adapter[{i}].prompts", adapter.get("prompts")):
            yield from dangling(place, "prompt", prompt)
    adapters = {_text(adapter, "id"): adapter for adapter in tables["adapter"]}
    for i, model in enumerate(tables["model"]):
        for key, table in (("base", "base"), ("adapter", "adapter"), ("train_split", "split")):
            yield from dangling(f"model[{i}].{key}", table, _text(model, key))
        for key in ("shots", "calibration"):
            yield from dangling(f"model[{i}].{key}.split", "split", _text(_table(model, key), "split"))
        answered = model.get("splits")
        for k, split in enumerate(answered if isinstance(answered, list) else []):
            place = f"model[{i}].splits[{k}]"
            yield from dangling(place, "split", split if isinstance(split, str) else None)
            if split in trained_on:
                yield place, f"{split!r} is used for training; answers are for splits that are scored"
        used = adapters.get(_text(model, "adapter"), {})
        method, backend = _text(used, "method"), _text(model, "backend")
        for place, prompt in _listed(f"model[{i}].prompts", model.get("prompts")):
            yield from dangling(place, "prompt", prompt)
            trained = [one for _, one in _listed("", used.get("prompts"))]
            if prompt in ids["prompt"] and trained and prompt not in trained:
                yield (
                    place,
                    f"adapter {_text(used, 'id')!r} was not trained on prompt {prompt!r} (its own: {_some(trained)}); "
                    "ask the model as its adapter was trained, or add the prompt to the adapter",
                )
        if "task" in used and backend in ("peft", "transformer"):
            yield f"model[{i}].backend", f"adapter {_text(used, 'id')!r} is a language model's; use backend 'prompt'"
        elif used and "task" not in used and backend == "prompt":
            who = f"adapter {_text(used, 'id')!r}"
            yield (
                f"model[{i}].adapter",
                f"{who} is a classifier's; use backend 'peft', or declare task = 'causal_lm' of it",
            )
        if method in WITHOUT_PEFT and backend == "peft":
            yield f"model[{i}].backend", f"method {method!r} trains without PEFT; use backend 'transformer'"
        if method is not None and method not in WITHOUT_PEFT and backend == "transformer":
            yield f"model[{i}].backend", f"method {method!r} is a PEFT adapter; use backend 'peft'"
        if "source" in used and backend == "transformer":
            yield f"model[{i}].backend", f"adapter {_text(used, 'id')!r} was trained elsewhere; use backend 'peft'"
        yield from _form_problems(f"model[{i}].precision", model, used)
        if (base := _text(used, "base") or _text(model, "base")) in in_nf4:
            yield from _nf4_problems(f"model[{i}]", model, str(base))
    yield from dangling("primary_metric", "metric", _text(data, "primary_metric"))
    yield from _rule_problems(tables, trained_on, dangling)
    yield from _curve_problems(tables, trained_on, dangling)
    if ids["split"] and not ids["split"] - trained_on:
        yield "split", "every split is used for training; add one to score"


def _trained_on(tables: Mapping[str, list[dict[str, Any]]]) -> set[str | None]:
    """Ids of the splits that something is trained on."""
    trained_on = {_text(_table(adapter, "train"), "split") for adapter in tables["adapter"]}
    trained_on |= {_text(model, "train_split") for model in tables["model"]}
    shown = [_table(model, key) for model in tables["model"] for key in ("shots", "calibration")]
    return trained_on | {_text(table, "split") for table in shown}


def _form_problems(place: str, model: Mapping[str, Any], adapter: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Problems of a precision that is unsupported, or that `auto` cannot choose."""
    precision = _text(model, "precision")
    untrained = _text(model, "backend") == "transformer" and _text(model, "adapter") is None
    if precision == "int8" and _text(model, "runtime") != "openvino":
        yield place, "int8 needs runtime = 'openvino'; torch's own quantisation is deprecated, so it is not used"
    elif precision == "int8" and (untrained or "source" in adapter):
        whose = "an untrained head" if untrained else f"adapter {_text(adapter, 'id')!r}, which was trained elsewhere,"
        yield place, f"int8 is calibrated on the weights' training rows; {whose} has none here; use fp32 or bf16"
    elif precision == "auto" and untrained:
        yield place, "'auto' is chosen by the answers of trained weights; for an untrained head, use fp32 or bf16"


def _nf4_problems(place: str, model: Mapping[str, Any], base: str) -> Iterator[tuple[str, str]]:
    """Problems of a model on a base whose linear layers are in 4 bits."""
    backend = _text(model, "backend")
    if _text(model, "runtime") == "openvino":
        yield f"{place}.runtime", f"OpenVINO cannot convert base {base!r}, which is in nf4; use runtime = 'torch'"
    if backend == "checkpoint":
        yield (
            f"{place}.base",
            f"a finished classifier is scored as it is, and base {base!r} is in nf4; declare it plain",
        )
    elif backend is not None and backend not in BACKEND_NAMES:
        yield f"{place}.base", f"a plug-in loads weights by itself, and base {base!r} is in nf4; declare it plain"


_COMPARED = ("non_inferior_to", "superior_to", "max_flips", "min_throughput")
"""Rules with another model on their other side."""
_RULES = ("min", "max", *_COMPARED, "max_drop_out_of_domain", "max_size_bytes", "max_train_seconds")


def _rule_problems(
    tables: Mapping[str, list[dict[str, Any]]],
    trained_on: set[str | None],
    dangling: Callable[[str, str, str | None], Iterator[tuple[str, str]]],
) -> Iterator[tuple[str, str]]:
    """Problems of gates and expectations: missing references, unfair comparisons, and duplicate rules."""
    models = {_text(model, "id"): model for model in tables["model"]}
    twins = {name: {key: value for key, value in model.items() if key != "id"} for name, model in models.items()}
    splits = {_text(split, "id"): split for split in tables["split"]}
    sliced = {name: _own_slices(split) for name, split in splits.items()}
    foreign = {_text(adapter, "id") for adapter in tables["adapter"] if "source" in adapter}
    for kind, word in (("gate", "gate"), ("expect", "expectation")):
        seen: dict[Any, int] = {}
        for i, row in enumerate(tables[kind]):
            place = f"{kind}[{i}]"
            for key in ("model", "split", "metric"):
                yield from dangling(f"{place}.{key}", key, _text(row, key))
            candidate, split = _text(row, "model"), _text(row, "split")
            if split is not None and split in trained_on:
                yield (
                    f"{place}.split",
                    f"{split!r} is used for training; {_a(word)} needs a split that no model has seen",
                )
            answered = models.get(candidate, {}).get("splits")
            if isinstance(answered, list) and split in splits and split not in answered:
                yield f"{place}.split", f"{candidate!r} has no answers for {split!r}; add it to that model's splits"
            yield from _pair_problems(place, row, splits.get(split, {}))
            if (name := _text(row, "slice")) is not None:
                yield from _slice_problems(f"{place}.slice", name, sliced.get(split, {}))
            elsewhere = _text(_table(row, "max_drop_out_of_domain"), "split")
            yield from dangling(f"{place}.max_drop_out_of_domain.split", "split", elsewhere)
            if elsewhere is not None and (elsewhere == split or elsewhere in trained_on):
                why = "is the gate's own split" if elsewhere == split else "is used for training"
                yield f"{place}.max_drop_out_of_domain.split", f"{elsewhere!r} {why}; name a split of another domain"
            if "max_train_seconds" in row or "max_size_bytes" in row:
                model = models.get(candidate, {})
                if candidate in models and _text(model, "adapter") is None:
                    yield f"{place}.model", f"{candidate!r} has no adapter whose size or training could be limited"
                elif "max_train_seconds" in row and _text(model, "adapter") in foreign:
                    why = "its adapter was trained elsewhere"
                    yield f"{place}.model", f"{candidate!r} has no training time to limit: {why}"
            for rule in _COMPARED:
                other = _text(_table(row, rule), "model")
                yield from dangling(f"{place}.{rule}.model", "model", other)
                if other is not None and other == candidate:
                    yield f"{place}.{rule}.model", f"{other!r} would be compared with itself"
                elif other in models and candidate in models and twins[other] == twins[candidate]:
                    yield f"{place}.{rule}.model", f"{other!r} is declared like {candidate!r}: the same model twice"
            for rule in _RULES:
                if rule in row:
                    stated = rule, *(_hashable(row.get(key)) for key in ("model", "split", "metric", "slice", rule))
                    if seen.setdefault(stated, i) != i:
                        yield f"{place}.{rule}", f"{kind}[{seen[stated]}] already has this rule"


def _curve_problems(
    tables: Mapping[str, list[dict[str, Any]]],
    trained_on: set[str | None],
    dangling: Callable[[str, str, str | None], Iterator[tuple[str, str]]],
) -> Iterator[tuple[str, str]]:
    """Problems of curves: missing references, models without training rows or on others, too few rows."""
    models = {_text(model, "id"): model for model in tables["model"]}
    splits = {_text(split, "id"): split for split in tables["split"]}
    trains = {_text(adapter, "id"): _text(_table(adapter, "train"), "split") for adapter in tables["adapter"]}

    def rows_of(model_id: str | None) -> str | None:
        model = models.get(model_id, {})
        return _text(model, "train_split") or trains.get(_text(model, "adapter"))

    for i, curve in enumerate(tables["curve"]):
        place, own, split = f"curve[{i}]", _text(curve, "model"), _text(curve, "split")
        yield from dangling(f"{place}.model", "model", own)
        yield from dangling(f"{place}.split", "split", split)
        if split is not None and split in trained_on:
            yield f"{place}.split", f"{split!r} is used for training; a curve needs a split that no model has seen"
        train = rows_of(own)
        if own in models and train is None:
            yield f"{place}.model", f"{own!r} is trained on no rows of this suite, so it has no curve; name one that is"
        for where, name in ((f"{place}.model", own), *_listed(f"{place}.against", curve.get("against"))):
            model = models.get(name, {})
            if where != f"{place}.model":
                yield from dangling(where, "model", name)
                if (other := rows_of(name)) is not None and train is not None and other != train:
                    yield where, f"{name!r} is trained on {other!r}, and {own!r} on {train!r}; a curve needs one split"
            if "repeats" in model:
                yield where, f"{name!r} draws its own rows (repeats); name a model without"
            answered = model.get("splits")
            if isinstance(answered, list) and split in splits and split not in answered:
                yield where, f"{name!r} has no answers for {split!r}; add it to that model's splits"
        rows, take = curve.get("rows"), splits.get(train, {}).get("take")
        largest = max((one for one in rows if isinstance(one, int)), default=0) if isinstance(rows, list) else 0
        if isinstance(take, int) and largest > take:
            yield f"{place}.rows", f"asks for {largest:,} rows of {train!r}, which has {take:,}; lower it"
        yield from _point_problems(place, curve, tables)


def _point_problems(
    place: str, curve: Mapping[str, Any], tables: Mapping[str, list[dict[str, Any]]]
) -> Iterator[tuple[str, str]]:
    """Problems of the ids that a curve's points would have."""
    name, rows, seeds = _text(curve, "id"), curve.get("rows"), curve.get("seeds")
    if name is None or not isinstance(rows, list) or not isinstance(seeds, list):
        return
    endings = tuple(f".{name}-{size}-{seed}" for size in rows for seed in seeds)
    longest = max((len(ending) for ending in endings), default=0)
    for table in ("split", "adapter", "model"):
        for other in (_text(row, "id") for row in tables[table]):
            if other is not None and endings and other.endswith(endings):
                yield f"{place}.id", f"{table} {other!r} has the id of a point of this curve; rename one of them"
    named = [_text(curve, "model"), *(model for _, model in _listed("", curve.get("against")))]
    for model in (one for one in named if one is not None):
        if len(model) + longest > LONGEST_ID:
            yield f"{place}.id", f"is too long for the points of {model!r}: at most {LONGEST_ID} characters together"


_OF_PAIRS, _WITHOUT_LABELS = ("pair_accuracy", "invariance", "direction"), ("invariance", "direction")
_MOVING = ("negation", "praise", "complaint")
"""Kinds of `perturb` whose copies have no label."""


def _pair_problems(place: str, rule: Mapping[str, Any], split: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Problems of rules that need pairs or labels which their split lacks."""
    name, metric = _text(split, "id"), _text(rule, "metric")
    if metric in _OF_PAIRS and name is not None and not {"pair", "perturb"} & split.keys():
        yield f"{place}.metric", f"{metric!r} is a share of pairs, and {name!r} has none; give it pair or perturb"
    if split.get("unlabelled") is True or _text(_table(split, "perturb"), "kind") in _MOVING:
        if metric is not None and metric not in _WITHOUT_LABELS:
            known = " and ".join(map(repr, _WITHOUT_LABELS))
            yield f"{place}.metric", f"{metric!r} needs labels, which {name!r} lacks; {known} need none"
        for key in ("max_flips", "max_drop_out_of_domain"):
            if key in rule:
                yield f"{place}.{key}", f"needs labels, which {name!r} lacks"


def _listed(place: str, value: Any) -> list[tuple[str, str]]:
    """The strings of a list, each with its place."""
    items = enumerate(value if isinstance(value, list) else [])
    return [(f"{place}[{k}]", item) for k, item in items if isinstance(item, str)]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _slice_problems(place: str, name: str, own: Mapping[str, None]) -> Iterator[tuple[str, str]]:
    """Problems of a slice that no example can be in."""
    family, _, value = name.partition("=")
    if family in SLICE_VALUES:
        if value not in SLICE_VALUES[family]:
            yield place, f"{family} has no value {value!r} (known: {', '.join(SLICE_VALUES[family])})"
    elif family not in own:
        known = _some([*SLICE_VALUES, *own])
        yield place, f"there is no family {family!r} (known: {known}; others are named in the split's slice_columns)"


def _own_slices(split: Mapping[str, Any]) -> dict[str, None]:
    """The columns by which a split is sliced, in order."""
    columns = split.get("slice_columns")
    named = columns if isinstance(columns, list) else []
    return dict.fromkeys(column for column in named if isinstance(column, str))


_NAMED = 50


def _some(names: Collection[str]) -> str:
    """A list of names, shortened if there are many."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(islice(names, _NAMED)) + more


def _hashable(value: Any) -> Any:
    """A hashable form of a TOML value; equal values have equal forms."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(inner)) for name, inner in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _tables(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = data.get(name)
    return [row if isinstance(row, dict) else {} for row in rows] if isinstance(rows, list) else []


def _table(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) else None
