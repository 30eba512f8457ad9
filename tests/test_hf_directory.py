"""A foreign GPT-2 directory is read as transformers reads it, or refused by name: generated over its files."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import plain_nats, save_gpt2, scored
from safetensors.torch import load_file, save_file
from test_export_faults import PLANTED, changed_json
from test_scoring import ITEMS, REFERENCE
from transformers import AutoTokenizer

from model.errors import PipelineError
from model.hf_directory import INDEX, WEIGHTS, read_hugging_face_directory, read_stored, read_tokenizer
from tools.hf_import import read_gpt2

TEXTS = [
    "The cat sat,  and 6 × 9 = 54 it was.", " the\n\nthe information", "<|endoftext|> hi<|endoftext|>", "naïve 你好 🎉 don't", "!",
    "", " ", "<MUL_6_9_54> a <new> b", "THE the!! the!", "e\u0301 ﬁ ①", "one " * 200,
]  # fmt: skip
V4_TOKEN = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


@pytest.fixture(scope="session")
def good(tmp_path_factory, tokenizer) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("good"), tokenizer, layers=2, heads=2, width=32, context=32)


@pytest.fixture
def directory(good, tmp_path) -> Path:
    shutil.copytree(good, tmp_path / "gpt2")
    return tmp_path / "gpt2"


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()) if path.exists() else {})))


def outcome(directory: Path) -> str:
    """Return "refused", or "same" for a tokenizer that gives AutoTokenizer's ids for every text; anything else is a failure.

    "ours" is one that transformers does not load, as with 0 in the place of false.
    """
    try:
        ours = read_tokenizer(directory, 10_000)
    except PipelineError as error:
        assert str(directory) in str(error)
        return "refused"
    try:
        theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        expected = [theirs.encode(text, verbose=False) for text in TEXTS]
    except (AttributeError, KeyError, TypeError, ValueError):
        return "ours"
    for _ in range(2):
        assert [ours.encode(text, add_special_tokens=False).ids for text in TEXTS] == expected
        assert [each.ids for each in ours.encode_batch_fast(TEXTS, add_special_tokens=False)] == expected
    return "same"


def as_rebuilt(directory: Path) -> None:
    """As save_pretrained writes a GPT2Tokenizer today."""


def as_of_the_file(directory: Path) -> None:
    rewrite(directory / "tokenizer_config.json", lambda found: {**found, "tokenizer_class": "TokenizersBackend"})


def as_fast(directory: Path) -> None:
    rewrite(directory / "tokenizer_config.json", lambda found: {"tokenizer_class": "PreTrainedTokenizerFast"})


def as_version_4(directory: Path) -> None:
    """As transformers 4 wrote a GPT2TokenizerFast."""
    decoder = {"512": {**V4_TOKEN, "special": True}}
    common = {"add_prefix_space": False, "clean_up_tokenization_spaces": True, "model_max_length": 1024}
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    rewrite(
        directory / "tokenizer_config.json",
        lambda _: {**common, **names, "added_tokens_decoder": decoder, "tokenizer_class": "GPT2Tokenizer"},
    )
    rewrite(directory / "special_tokens_map.json", lambda _: names)
    rewrite(directory / "tokenizer.json", on_the_hub)


def as_version_3(directory: Path) -> None:
    """As transformers 3 and the hub's gpt2: no tokenizer_config.json that says more than a length."""
    rewrite(directory / "tokenizer_config.json", lambda _: {"model_max_length": 1024})
    rewrite(directory / "special_tokens_map.json", lambda _: dict.fromkeys(("bos_token", "eos_token", "unk_token"), V4_TOKEN))
    rewrite(directory / "tokenizer.json", on_the_hub)


def on_the_hub(found: dict) -> dict:
    """tokenizer.json in the layout of OpenAI's gpt2: merges are strings, and later keys are not there."""
    model = {key: found["model"][key] for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                                                  "fuse_unk", "vocab")}  # fmt: skip
    post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    pre = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model["merges"] = [" ".join(pair) for pair in found["model"]["merges"]]
    return {**found, "pre_tokenizer": pre, "post_processor": post, "decoder": {**post, "trim_offsets": True}, "model": model}


def without_config(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()


LAYOUTS = [as_rebuilt, as_of_the_file, as_fast, as_version_4, as_version_3, without_config]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_directories_of_every_version_are_read_as_transformers_reads_them(directory, layout):
    layout(directory)
    assert outcome(directory) == "same"


@pytest.mark.parametrize("layout", [as_rebuilt, as_of_the_file, as_version_4])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_changed_tokenizer_is_read_as_transformers_reads_it_or_refused(directory, layout, name):
    layout(directory)
    path = directory / name
    value = json.loads(path.read_text())
    value.get("model", {})["merges"] = value.get("model", {}).get("merges", [])[:40]
    faults = [*changed_json(value, name == "tokenizer.json"), *(("planted", {**value, **changes}) for changes in PLANTED[name])]
    found = Counter()
    for _, changed in faults:
        path.write_text(json.dumps(changed))
        found[outcome(directory)] += 1
    assert found["refused"] > 10
    assert found["same"] > found["ours"]
    print(f"{layout.__name__} {name}: {found}")
