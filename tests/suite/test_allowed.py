"""Params reach PEFT only where they can name nothing from elsewhere, take no long time, and ask for bounded memory."""

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suite import allowed

REFUSED = [
    (
        {"prompt_tuning_init_state_dict_path": "/tmp/evil.bin"},
        "prompt_tuning_init_state_dict_path",
        "refers to code, files",
    ),
    ({"tokenizer_name_or_path": "someone/model"}, "tokenizer_name_or_path", "refers to code, files or models"),
    ({"tokenizer_kwargs": {"trust_remote_code": True}}, "tokenizer_kwargs", "refers to code, files or models"),
    ({"base_model_name_or_path": "../other"}, "base_model_name_or_path", "refers to code, files or models"),
    ({"megatron_config": {}}, "megatron_config", "refers to code, files or models"),
    ({"megatron_core": "evil"}, "megatron_core", "refers to code, files or models"),
    ({"shadow_model": "bert-base-uncased"}, "shadow_model", "refers to code, files or models"),
    ({"adapters": {"a": "/tmp/a"}}, "adapters", "refers to code, files or models"),
    ({"corda_config": {"cache_file": "/tmp/x"}}, "corda_config.cache_file", "refers to a file"),
    ({"corda_config": {"unheard_of": "gpt2"}}, "corda_config.unheard_of", "text is not supported here"),
    ({"a_new_param": "gpt2"}, "a_new_param", "text is not supported here, since it could name a file or a model"),
    ({"init_lora_weights": "../weights"}, "init_lora_weights", "is not one of its options"),
    ({"bias": "https://example.org/x"}, "bias", "is not one of its options"),
    ({"target_modules": ["query", "../value"]}, "target_modules[1]", "is not the name of a module"),
    ({"target_modules": "(a+)+b"}, "target_modules", "can take very long"),
    ({"target_modules": "(a|aa)+b"}, "target_modules", "can take very long"),
    ({"target_modules": "["}, "target_modules", "is not a regular expression"),
    ({"target_modules": "a" * 3000}, "target_modules", "has 3,000 characters"),
    ({"exclude_modules": "(.*)*x"}, "exclude_modules", "can take very long"),
    ({"feedforward_modules": "(.*.*.*.*.*)x"}, "feedforward_modules", "can take very long"),
    ({"layers_pattern": ["(.+)+"]}, "layers_pattern[0]", "can take very long"),
    ({"rank_pattern": {"(.+)+": 4}}, "rank_pattern", "can take very long"),
    ({"target_svd_config": {"(.+)+": 4}}, "target_svd_config", "can take very long"),
    ({"rank_pattern": {".*.*.*" + "a" * i: 4 for i in range(100)}}, "rank_pattern", "can take very long"),
    ({"rank_pattern": {"query": 10**9}}, "rank_pattern.query", "is 1000000000, but at most 16384 is supported"),
    ({"lora_alpha": 10**400}, "lora_alpha", "is 1000"),
    ({"r": 10**9}, "r", "but at most 16384"),
    ({"num_virtual_tokens": 10**6}, "num_virtual_tokens", "but at most 16384"),
    ({"encoder_hidden_size": 10**6}, "encoder_hidden_size", "but at most 16384"),
    ({"encoder_num_layers": 10**6}, "encoder_num_layers", "but at most 16384"),
    ({"n_frequency": 10**9}, "n_frequency", "but at most 1000000"),
    ({"lora_alpha": float("nan")}, "lora_alpha", "must be a finite number, not nan"),
    ({"alpha_pattern": {"query": float("inf")}}, "alpha_pattern.query", "must be a finite number, not inf"),
    ({"layer_replication": [[0, 100_000]]}, "layer_replication", "yields 100,000 layers"),
    ({"layer_replication": [[0, 1]] * 100_000}, "layer_replication", "yields 100,000 layers"),
    ({"layer_replication": "all"}, "layer_replication", "must be a list of pairs"),
    ({"a": [[[[[1]]]]]}, "a[0][0][0]", "is nested more than 3 levels deep"),
    ({"token_indices": [1] * 20_000}, "token_indices", "has 20,000 items"),
]
TAKEN: list[dict[str, Any]] = [
    {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["query", "output.dense"], "bias": "lora_only"},
    {"r": 8, "target_modules": "all-linear", "init_lora_weights": "pissa_niter_4", "use_rslora": True},
    {"target_modules": r".*layer\.(1|2|11)\.attention\.(self|output)\.(query|value|dense)"},
    {"target_modules": r"model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"},
    {"exclude_modules": r"^(?!.*attention).*$", "layers_to_transform": [0, 1], "layers_pattern": "layer"},
    {"rank_pattern": {"query": 4, r"layer\.0\.attention": 2}, "alpha_pattern": {"^bert.*query": 8.0}},
    {"layer_replication": [[0, 4], [2, 5]], "modules_to_save": ["classifier"], "lora_bias": False},
    {"random_loc_seed": 2**40, "scaling": 100.0, "n_frequency": 10_000, "megatron_core": "megatron.core"},
    {"trainable_token_indices": {"embed_tokens": [1, 2]}, "loftq_config": {}, "revision": None},
]


@pytest.mark.parametrize(("params", "place", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_names_something_elsewhere_or_has_no_bounds_is_refused(params: Any, place: str, message: str) -> None:
    started = time.process_time()  # whatever else the machine does
    found = dict(allowed.problems({"lora_alpha": 8} | params))
    assert message in found[place]
    assert set(found) == {place}
    assert time.process_time() - started < 1


@pytest.mark.parametrize("params", TAKEN, ids=lambda value: str(value)[:40])
def test_what_real_adapters_say_is_taken(params: Any) -> None:
    assert list(allowed.problems(params)) == []


PARTS = st.sampled_from(["a", ".", "(a|b)", "(a|ab)", "[ab]", r"\d", "(?:a.)", "(?!a)", "x"])
PIECES = st.tuples(PARTS, st.sampled_from(["", "*", "+", "?", "{2,3}", "*?"])).map("".join)
PATTERNS = st.lists(PIECES, max_size=8).map("".join) | st.lists(PIECES, max_size=3).map(lambda p: f"({''.join(p)})*x")


@settings(max_examples=200, deadline=None)
@given(PATTERNS)
def test_a_pattern_that_is_taken_is_matched_in_short_time(pattern: str) -> None:
    if list(allowed.problems({"target_modules": pattern})):
        return
    matched = time.process_time()
    re.match(rf"(.*\.)?({pattern})$", "ab" * 32)
    assert time.process_time() - matched < 2
