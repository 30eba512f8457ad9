"""Changes to an export's JSON files: generated ones, and ones seen in other people's exports."""

import copy
from collections.abc import Iterator
from typing import Any

from mutations import places


def changed_leaf(value: Any) -> list[Any]:
    """Return values near `value` and values of other types, none equal to it."""
    if isinstance(value, bool):
        return [not value, int(value), None]
    if isinstance(value, int):
        return [value + 1, float(value), str(value)]
    if isinstance(value, float):
        return [value + 0.1, int(value), None] if value != int(value) else [value + 0.1, int(value)]
    if isinstance(value, str):
        return [f"{value}!", value[1:] or "?", None]
    if value is None:
        return [False, 0, "<|endoftext|>"]
    return [type(value)(), None] if value else [None, [0]]


def changed_json(value: dict, vocabulary_and_merges: bool) -> Iterator[tuple[str, dict]]:
    """Yield a name and a copy of `value` for each change: one entry deleted, changed or added."""
    for path in places(value):
        if not path or (path[:2] in (("model", "vocab"), ("model", "merges")) and len(path) > 2):
            continue
        for how in ("deleted", "changed", "neighbour"):
            for number in range(3):
                changed = copy.deepcopy(value) if not vocabulary_and_merges else shallow_copy(value)
                *parents, last = path
                holder = changed
                for key in parents:
                    holder = holder[key]
                if how == "changed":
                    others = changed_leaf(holder[last])
                    if number >= len(others):
                        break
                    holder[last] = others[number]
                elif number:
                    break
                elif how == "deleted":
                    del holder[last]
                elif isinstance(holder, dict):
                    holder[f"{last}_2"] = holder[last]
                else:
                    holder.insert(last, copy.deepcopy(holder[last]))
                yield how, changed


def shallow_copy(value: dict) -> dict:
    """Copy tokenizer.json without copying each of its ids and merges."""
    model = {
        **value["model"],
        "vocab": dict(value["model"]["vocab"]),
        "merges": list(value["model"]["merges"]),
    }
    return {
        **copy.deepcopy({key: part for key, part in value.items() if key != "model"}),
        "model": model,
    }


# Changes seen in other people's exports, and changes that alter a reader's work but no weight.
PLANTED = {
    "config.json": [
        {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}},
        {"pruned_heads": {"0": [0]}},
        {"quantization_config": {}},
        {"torch_dtype": "float16"},
        {"attn_implementation": "eager"},
        {"num_attention_heads": 4},
        {"hidden_size": 16},
        {"tokenizer_class": "BertTokenizer"},
        {"_name_or_path": "gpt2"},
        {"is_decoder": False},
        {"task_specific_params": {}},
    ],
    "generation_config.json": [
        {"repetition_penalty": 1.3},
        {"do_sample": True},
        {"temperature": 0.7},
        {"top_k": 5},
        {"suppress_tokens": [1, 2]},
        {"begin_suppress_tokens": [1]},
        {"bad_words_ids": [[1]]},
        {"max_length": 5},
        {"max_new_tokens": 1},
        {"num_beams": 4},
        {"forced_eos_token_id": 3},
        {"no_repeat_ngram_size": 2},
        {"min_length": 4},
        {"length_penalty": 2.0},
    ],
    "tokenizer_config.json": [
        {"add_bos_token": True},
        {"add_eos_token": True},
        {"add_prefix_space": True},
        {"bos_token": "!"},
        {"eos_token": "!"},
        {"unk_token": "!"},
        {"pad_token": "<|endoftext|>"},
        {"additional_special_tokens": ["the"]},
        {"chat_template": "x"},
        {"extra_special_tokens": ["the"]},
        {"split_special_tokens": False},
        {"truncation_side": "left"},
        {"do_lower_case": True},
        {"added_tokens_decoder": {"5": {"content": "the"}}},
        {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}},
    ],
    "tokenizer.json": [
        {"normalizer": {"type": "Lowercase"}},
        {"normalizer": {"type": "NFKC"}},
        {"normalizer": {"type": "Prepend", "prepend": " "}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            }
        },
        {
            "post_processor": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": False,
                "use_regex": True,
            }
        },
        {
            "truncation": {
                "direction": "Right",
                "max_length": 4,
                "strategy": "LongestFirst",
                "stride": 0,
            }
        },
        {
            "padding": {
                "strategy": "BatchLongest",
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "!",
            }
        },
        {"decoder": None},
        {"decoder": {"type": "Fuse"}},
    ],
}
