"""A foreign GPT-2 directory is read as transformers reads it, or refused by name: generated over
its files.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from export_changes import PLANTED, changed_json
from gpt2_directories import plain_nats, save_gpt2, scored
from mutations import reads_or_says_why
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from tricky_items import ITEMS, REFERENCE

from common.errors import PipelineError
from model.hugging_face.directory import (
    INDEX,
    WEIGHTS,
    read_hugging_face_directory,
    read_stored,
    read_tokenizer,
)
from tools.hf_import import read_gpt2

TEXTS = [
    "The cat sat,  and 6 × 9 = 54 it was.",
    " the\n\nthe information",
    "<|endoftext|> hi<|endoftext|>",
    "naïve 你好 🎉 don't",
    "!",
    "",
    " ",
    "<MUL_6_9_54> a <new> b",
    "THE the!! the!",
    "e\u0301 ﬁ ①",
    "one " * 200,
]
V4_TOKEN = {
    "content": "<|endoftext|>",
    "lstrip": False,
    "normalized": True,
    "rstrip": False,
    "single_word": False,
}


@pytest.fixture(scope="session")
def good(tmp_path_factory, tokenizer) -> Path:
    return save_gpt2(
        tmp_path_factory.mktemp("good"), tokenizer, layers=2, heads=2, width=32, context=32
    )


@pytest.fixture
def directory(good, tmp_path) -> Path:
    shutil.copytree(good, tmp_path / "gpt2")
    return tmp_path / "gpt2"


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()) if path.exists() else {})))


def outcome(directory: Path) -> str:
    """Return "refused", or "same" for a tokenizer that gives AutoTokenizer's ids for every text;
    anything else is a failure.

    "ours" is one that transformers does not load, as with 0 in the place of false.
    """
    if not reads_or_says_why(lambda: read_tokenizer(directory, 10_000), str(directory), lines=9):
        return "refused"
    ours = read_tokenizer(directory, 10_000)
    try:
        theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        expected = [theirs.encode(text, verbose=False) for text in TEXTS]
    except (AttributeError, KeyError, TypeError, ValueError):
        return "ours"
    for _ in range(2):
        assert [ours.encode(text, add_special_tokens=False).ids for text in TEXTS] == expected
        assert [
            each.ids for each in ours.encode_batch_fast(TEXTS, add_special_tokens=False)
        ] == expected
    return "same"


def as_rebuilt(directory: Path) -> None:
    """As save_pretrained writes a GPT2Tokenizer today."""


def as_of_the_file(directory: Path) -> None:
    rewrite(
        directory / "tokenizer_config.json",
        lambda found: {**found, "tokenizer_class": "TokenizersBackend"},
    )


def as_fast(directory: Path) -> None:
    rewrite(
        directory / "tokenizer_config.json",
        lambda found: {"tokenizer_class": "PreTrainedTokenizerFast"},
    )


def as_version_4(directory: Path) -> None:
    """As transformers 4 wrote a GPT2TokenizerFast."""
    decoder = {"512": {**V4_TOKEN, "special": True}}
    common = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
        "model_max_length": 1024,
    }
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    rewrite(
        directory / "tokenizer_config.json",
        lambda _: {
            **common,
            **names,
            "added_tokens_decoder": decoder,
            "tokenizer_class": "GPT2Tokenizer",
        },
    )
    rewrite(directory / "special_tokens_map.json", lambda _: names)
    rewrite(directory / "tokenizer.json", on_the_hub)


def as_version_3(directory: Path) -> None:
    """As transformers 3 and the hub's gpt2: no tokenizer_config.json that says more than a
    length.
    """
    rewrite(directory / "tokenizer_config.json", lambda _: {"model_max_length": 1024})
    rewrite(
        directory / "special_tokens_map.json",
        lambda _: dict.fromkeys(("bos_token", "eos_token", "unk_token"), V4_TOKEN),
    )
    rewrite(directory / "tokenizer.json", on_the_hub)


def on_the_hub(found: dict) -> dict:
    """tokenizer.json in the layout of OpenAI's gpt2: merges are strings, and later keys are not
    there.
    """
    model = {
        key: found["model"][key]
        for key in (
            "dropout",
            "unk_token",
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "fuse_unk",
            "vocab",
        )
    }
    post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    pre = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model["merges"] = [" ".join(pair) for pair in found["model"]["merges"]]
    return {
        **found,
        "pre_tokenizer": pre,
        "post_processor": post,
        "decoder": {**post, "trim_offsets": True},
        "model": model,
    }


def without_config(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()


def with_switches(directory: Path) -> None:
    """Keys that end as a token's name does, and are none; transformers 4 wrote them."""
    rewrite(
        directory / "tokenizer_config.json",
        lambda found: {**found, "add_bos_token": False, "add_eos_token": False},
    )


def with_a_padding_token(directory: Path) -> None:
    """Of a fine-tuned model, whose embedding has a row more."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    pad = {"id": 576, "content": "[PAD]", "special": True, **flags}
    rewrite(
        directory / "tokenizer.json",
        lambda found: {**found, "added_tokens": [*found["added_tokens"], pad]},
    )
    rewrite(directory / "tokenizer_config.json", lambda found: {**found, "pad_token": "[PAD]"})


LAYOUTS = [
    with_switches,
    with_a_padding_token,
    as_rebuilt,
    as_of_the_file,
    as_fast,
    as_version_4,
    as_version_3,
    without_config,
]


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
    faults = [
        *changed_json(value, name == "tokenizer.json"),
        *(("planted", {**value, **changes}) for changes in PLANTED[name]),
    ]
    found = Counter()
    for _, changed in faults:
        path.write_text(json.dumps(changed))
        found[outcome(directory)] += 1
    assert found["refused"] > 10
    assert found["same"] > found["ours"]
    print(f"{layout.__name__} {name}: {found}")


def write_shards(
    directory: Path, tensors: dict[str, torch.Tensor], parts: int = 3, metadata: dict | None = None
) -> Path:
    """Replace model.safetensors by shards with an index; return the index."""
    names, weight_map = sorted(tensors), {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        mine = names[part::parts]
        save_file(
            {name: tensors[name].contiguous() for name in mine},
            directory / file,
            metadata={"format": "pt"},
        )
        weight_map |= dict.fromkeys(mine, file)
    total = {"total_size": sum(tensor.nbytes for tensor in tensors.values())}
    rewrite(
        directory / INDEX,
        lambda _: {"metadata": total if metadata is None else metadata, "weight_map": weight_map},
    )
    (directory / WEIGHTS).unlink(missing_ok=True)
    return directory / INDEX


def test_shards_are_read_as_the_whole_file_is(directory, good):
    write_shards(directory, load_file(directory / WEIGHTS))
    whole, parts = (
        read_hugging_face_directory(good).tensors,
        read_hugging_face_directory(directory).tensors,
    )
    assert list(whole) == list(parts)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [score.nats for score in scored(directory, ITEMS[:2], REFERENCE)] == [
        pytest.approx(nats, abs=1e-3) for nats in plain_nats(directory, ITEMS[:2], REFERENCE)
    ]
    ours = read_gpt2(directory).state_dict()
    assert all(
        torch.equal(tensor, ours[name]) for name, tensor in read_gpt2(good).state_dict().items()
    )


def test_shards_that_save_pretrained_writes_are_read(directory, good):
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(good, local_files_only=True)
    (directory / WEIGHTS).unlink()
    model.save_pretrained(directory, max_shard_size="50KB")
    assert len(list(directory.glob("model-*.safetensors"))) > 2
    whole, parts = (
        read_hugging_face_directory(good).tensors,
        read_hugging_face_directory(directory).tensors,
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_one_file_goes_before_shards_as_with_transformers(directory):
    tensors = load_file(directory / WEIGHTS)
    write_shards(directory, {name: torch.zeros_like(tensor) for name, tensor in tensors.items()})
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    path, stored = read_stored(directory)
    assert path.name == WEIGHTS
    assert torch.equal(stored["transformer.wpe.weight"], tensors["transformer.wpe.weight"])


FIRST = "model-00001-of-00003.safetensors"
SECOND = "model-00002-of-00003.safetensors"


def mapped(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def fault(directory: Path) -> None:
        def changed(index: dict) -> dict:
            change(index["weight_map"])
            return index

        rewrite(directory / INDEX, changed)

    return fault


def one_shard(change: Callable[[dict], dict]) -> Callable[[Path], None]:
    def fault(directory: Path) -> None:
        save_file(
            change(load_file(directory / FIRST)), directory / FIRST, metadata={"format": "pt"}
        )

    return fault


A, B = (
    "transformer.h.0.attn.c_attn.bias",
    "transformer.h.0.attn.c_attn.weight",
)  # in the first and second shard
SHARD_FAULTS = {
    "a shard is missing": (
        lambda folder: (folder / FIRST).unlink(),
        f"no {FIRST}; which {INDEX} lists; fetch it",
    ),
    "a shard is cut": (
        lambda folder: (folder / FIRST).write_bytes(b"12345678"),
        f"{FIRST}: not a safetensors file",
    ),
    "a shard lacks a tensor": (
        one_shard(lambda held: {k: v for k, v in held.items() if k != A}),
        f"{FIRST}: lacks {A}",
    ),
    "a shard holds another's": (
        one_shard(lambda held: {**held, B: torch.zeros(32, 96)}),
        f"{FIRST}: holds {B}, unlike",
    ),
    "a shard holds one too many": (
        one_shard(lambda held: {**held, "x": torch.zeros(1)}),
        f"{FIRST}: holds x, unlike",
    ),
    "shards are exchanged": (
        lambda folder: (
            (folder / FIRST).rename(folder / "a"),
            (folder / SECOND).rename(folder / FIRST),
            (folder / "a").rename(folder / SECOND),
        ),
        f"{FIRST}: lacks {A}",
    ),
    "a tensor is said to be in another": (
        mapped(lambda names: names.update({A: SECOND})),
        f"{FIRST}: holds {A}, unlike",
    ),
    "a name is not listed": (mapped(lambda names: names.pop(A)), f"{FIRST}: holds {A}, unlike"),
    "a file above": (
        mapped(lambda names: names.update({A: "../x.safetensors"})),
        r"weight_map: '\.\./x\.safetensors' is no",
    ),
    "a file elsewhere": (
        mapped(lambda names: names.update({A: "/x.safetensors"})),
        "weight_map: '/x.safetensors' is not the name",
    ),
    "a pickle": (
        mapped(lambda names: names.update({A: "pytorch_model.bin"})),
        r"weight_map: 'pytorch_model\.bin' is not the name",
    ),
    "no names": (mapped(dict.clear), "weight_map: Dictionary should have at least 1 item"),
    "a number for a file": (
        mapped(lambda names: names.update({A: 1})),
        "weight_map.*: Input should be a valid string",
    ),
    "no JSON": (lambda folder: (folder / INDEX).write_text("{"), f"{INDEX}: cannot be read"),
    "another size": (
        lambda folder: rewrite(
            folder / INDEX, lambda index: {**index, "metadata": {"total_size": 5}}
        ),
        r"metadata\.total_size is 5, the files hold 179712 bytes",
    ),
}


@pytest.mark.parametrize(("fault", "message"), SHARD_FAULTS.values(), ids=SHARD_FAULTS)
def test_shards_that_are_not_those_of_their_index_are_refused(directory, fault, message):
    write_shards(directory, load_file(directory / WEIGHTS))
    read_hugging_face_directory(directory)
    fault(directory)
    for read in (read_hugging_face_directory, read_gpt2):
        with pytest.raises(PipelineError, match=message) as caught:
            read(directory)
        assert len(str(caught.value).splitlines()) == 1


CAUSAL = torch.ones(1, 1, 32, 32).tril()
MASKS = {
    "bytes": (torch.uint8, torch.float32),
    "truth values": (torch.bool, torch.float32),
    "floats": (torch.float32, torch.float32),
    "halves": (torch.float16, torch.float16),
    "brain floats": (torch.bfloat16, torch.bfloat16),
    "integers": (torch.int64, None),
    "doubles": (torch.float64, torch.float64),
}


@pytest.mark.parametrize("types", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_stored_masks_of_every_type_change_nothing(directory, good, types, prefix):
    mask, number = types
    tensors = {
        prefix + name.removeprefix("transformer."): tensor
        for name, tensor in load_file(directory / WEIGHTS).items()
    }
    for layer in (0, 1):
        tensors[f"{prefix}h.{layer}.attn.bias"] = CAUSAL.to(mask, copy=True)
        if number:
            tensors[f"{prefix}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4, dtype=number)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    assert scored(directory, ITEMS[:3], REFERENCE) == scored(good, ITEMS[:3], REFERENCE)
    ours = read_gpt2(directory).state_dict()
    assert all(
        torch.equal(tensor, ours[name]) for name, tensor in read_gpt2(good).state_dict().items()
    )


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_a_head_stored_in_the_place_of_the_embedding_is_the_embedding(directory, good, prefix):
    """What safetensors' save_model leaves of two tied tensors is the first name; transformers ties
    them again.
    """
    tensors = {
        prefix + name.removeprefix("transformer."): tensor
        for name, tensor in load_file(directory / WEIGHTS).items()
    }
    tensors["lm_head.weight"] = tensors.pop(f"{prefix}wte.weight")
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    assert scored(directory, ITEMS[:3], REFERENCE) == scored(good, ITEMS[:3], REFERENCE)
    found = [score.nats for score in scored(directory, ITEMS[:3], REFERENCE)]
    assert found == [
        pytest.approx(nats, abs=1e-3) for nats in plain_nats(directory, ITEMS[:3], REFERENCE)
    ]
    assert torch.equal(read_gpt2(directory).lm_head.weight, tensors["lm_head.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dropout": 0.5},
            (
                r"tokenizer\.json: model\.dropout is 0\.5: a text would get other ids each time;"
                r" set it to null"
            ),
        ),
        (
            {"ignore_merges": True},
            r"model\.ignore_merges is true, for which transformers' GPT2Tokenizer takes false",
        ),
        (
            {"unk_token": "!"},
            r'model\.unk_token is "!", for which transformers\' GPT2Tokenizer takes null',
        ),
    ],
)
def test_a_part_that_transformers_does_not_follow_is_named_with_both_values(
    directory, change, message
):
    rewrite(
        directory / "tokenizer.json", lambda found: {**found, "model": {**found["model"], **change}}
    )
    with pytest.raises(PipelineError, match=message) as caught:
        read_tokenizer(directory, 576)
    assert len(str(caught.value).splitlines()) == 1


def test_dropout_is_refused_whatever_class_reads_it(directory):
    rewrite(
        directory / "tokenizer.json",
        lambda found: {**found, "model": {**found["model"], "dropout": 0.1}},
    )
    for layout in (as_rebuilt, as_of_the_file, as_fast):
        layout(directory)
        with pytest.raises(PipelineError, match=r"model\.dropout is 0\.1"):
            read_tokenizer(directory, 576)


def with_token(name: str) -> dict:
    flags = {
        "single_word": False,
        "lstrip": True,
        "rstrip": True,
        "normalized": False,
        "special": True,
    }
    return {"id": 576, "content": name, **flags}


def test_an_added_token_takes_the_blanks_beside_it_as_with_transformers(directory):
    rewrite(
        directory / "tokenizer.json",
        lambda found: {**found, "added_tokens": [*found["added_tokens"], with_token("<new>")]},
    )
    for split in (True, False):
        rewrite(
            directory / "tokenizer_config.json",
            lambda found, split=split: {**found, "split_special_tokens": split},
        )
        assert outcome(directory) == "same"


FILE_FAULTS = {
    "added_tokens.json": {"<new>": 576},
    "special_tokens_map.json": {"eos_token": "the"},
}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_a_token_that_only_another_file_names_is_refused(directory, name):
    """transformers would add it, and encode its spelling as one token."""
    rewrite(directory / name, lambda _: FILE_FAULTS[name])
    with pytest.raises(
        PipelineError, match=f"{name}: .* which added_tokens of tokenizer.json does not have so"
    ):
        read_tokenizer(directory, 600)


def test_a_class_that_is_not_gpt2s_is_refused(directory):
    for file in ("tokenizer_config.json", "config.json"):
        rewrite(
            directory / "tokenizer_config.json",
            lambda found: {key: found[key] for key in found if key != "tokenizer_class"},
        )
        rewrite(directory / file, lambda found: {**found, "tokenizer_class": "BertTokenizer"})
        with pytest.raises(
            PipelineError,
            match='tokenizer_class is "BertTokenizer", whose own parts are not known here',
        ):
            read_tokenizer(directory, 576)


@pytest.mark.parametrize("layout", [as_rebuilt, as_of_the_file])
def test_a_post_processor_that_adds_tokens_is_refused(directory, layout):
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [512], "tokens": ["<|endoftext|>"]}}
    first = [
        {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    template = {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first[1:],
        "special_tokens": special,
    }
    rewrite(directory / "tokenizer.json", lambda found: {**found, "post_processor": template})
    layout(directory)
    with pytest.raises(PipelineError, match="post_processor adds 1 tokens to every text"):
        read_tokenizer(directory, 576)


def test_no_line_advises_what_the_directory_already_is(directory):
    """Each names the file and how to make it; a directory that save_pretrained made is read."""
    for name, message in (
        ("tokenizer.json", r"no tokenizer\.json; transformers' AutoTokenizer"),
        (
            "model.safetensors",
            r"no model\.safetensors; nor an index of its parts \(model\.safetensors\.index\.json\)",
        ),
        ("config.json", r"no config\.json; transformers' AutoModelForCausalLM"),
    ):
        (directory / name).unlink()
        with pytest.raises(PipelineError, match=message):
            read_hugging_face_directory(directory)


def test_generation_config_is_not_needed_to_score(directory, good):
    (directory / "generation_config.json").unlink()
    assert scored(directory, ITEMS[:1], REFERENCE) == scored(good, ITEMS[:1], REFERENCE)


def test_quantized_weights_are_refused(directory):
    rewrite(
        directory / "config.json",
        lambda found: {**found, "quantization_config": {"quant_method": "bitsandbytes"}},
    )
    with pytest.raises(PipelineError, match=r"config\.json: quantization_config: "):
        read_hugging_face_directory(directory)
