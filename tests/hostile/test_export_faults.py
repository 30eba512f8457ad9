"""Faults generated over the specification of an export, every one of which the gate has to stop.

    python -m pytest tests/hostile/test_export_faults.py -rP -k counted

prints how many were made of each kind and caught. Every key of every JSON file is deleted, changed
and given a neighbour; ids and merges are exchanged; every file and tensor is taken away, added to
and altered; every reader is made to read something else.
"""

import copy
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tokenizers
import torch
from export_changes import PLANTED, changed_json, shallow_copy
from repository import REPOSITORY
from safetensors.torch import load_file, save_file
from small_objects import checkpoint_config, random_gpt, save_checkpoint, write_token_split
from tokenizers.normalizers import Lowercase
from transformers import GenerationConfig

from common.errors import PipelineError
from common.files import CHECKSUMS, verified_directory, write_checksums
from model.export import gate
from model.export.gate import Source, keep_export, read_source, verify_export
from model.export.hf_tokenizer import to_hugging_face
from model.export.specification import expected_json, first_difference, read_exactly
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.hugging_face.loading import load_hugging_face_model
from model.network.canary import canary_rows, mean_loss
from model.network.checkpoints import load_model, read_checkpoint
from model.network.gpt import GPTConfig
from model.params.tokenize import TokenizeParams
from model.tokens.bpe import PATTERN, Tokenizer
from model.tokens.shards import Index, TokenSplit
from stages import pretrain, sft

TOLERANCE = 1e-4
JSON_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TEXTS = ["The cat sat, and 6 × 9 = 54 it was.", "7 * 8 is 56; not 3*4!"]


class Made(NamedTuple):
    """A right export as the exporter writes it, and what it is held to."""

    directory: Path
    source: Source


def write(directory: Path, source: Source, tokenizer: Tokenizer | None = None) -> None:
    config = source.model.config
    tensors = {
        name: tensor
        for name, tensor in source.model.state_dict().items()
        if name != "lm_head.weight"
    }
    mapped = map_tensors(tensors, export_table(config.layers))
    build_hugging_face_model(
        hugging_face_config(config, source.tokenizer.end_of_text), mapped
    ).save_pretrained(directory)
    to_hugging_face(tokenizer or source.tokenizer, config.context).save_pretrained(directory)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # products of a few numbers
    yield
    torch.set_num_threads(before)


@torch.no_grad()
def source_of(tokenizer: Tokenizer) -> Source:
    network = GPTConfig(layers=1, heads=2, width=16, context=32, vocab_size=tokenizer.size)
    model = random_gpt(network)
    rows = torch.randint(
        0, network.vocab_size, (2, network.context + 1), generator=torch.Generator().manual_seed(3)
    )
    return Source(model, tokenizer, rows, TEXTS, mean_loss(model(rows[:, :-1]), rows[:, 1:]))


@pytest.fixture(scope="session")
def conditions(tokenizer, baseline_tokenizer) -> dict[str, Tokenizer]:
    digits = Tokenizer(
        tokenizer.ranks, mul_facts=False, pattern=PATTERN.replace(r" ?\p{N}++", r"\p{N}")
    )
    return {"baseline": baseline_tokenizer, "mul_tokens": tokenizer, "digits": digits}


@pytest.fixture(scope="session")
def exports(conditions, tmp_path_factory) -> dict[str, Made]:
    made = {}
    for name, tokenizer in conditions.items():
        made[name] = Made(tmp_path_factory.mktemp(name), source_of(tokenizer))
        write(*made[name])
        verify_export(*made[name], TOLERANCE)
    return made


@pytest.fixture
def export(exports, tmp_path) -> Made:
    """A copy to break."""
    directory = tmp_path / "export"
    shutil.copytree(exports["mul_tokens"].directory, directory)
    return exports["mul_tokens"]._replace(directory=directory)


def stops(export: Made, name: str = "") -> bool:
    """Return whether the gate stops `export`; where it does, the one line names `name`."""
    said = None
    try:
        verify_export(*export, TOLERANCE)
    except PipelineError as error:
        said = str(error)
    if said is None:
        return False
    assert len(said.splitlines()) == 1
    assert said.startswith("export: ")
    assert name in said
    return True


def planted(name: str, value: dict) -> Iterator[tuple[str, dict]]:
    for changes in PLANTED[name]:
        yield "planted", {**value, **changes}


def changed_vocabulary(value: dict) -> Iterator[tuple[str, dict]]:
    """Yield exchanges of the ids of neighbours, and merges left out, exchanged, doubled and taken
    apart otherwise.
    """
    vocabulary, merges = value["model"]["vocab"], value["model"]["merges"]
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    for number in range(0, len(by_id) - 1, 3):
        one, other = by_id[number], by_id[number + 1]
        changed = shallow_copy(value)
        changed["model"]["vocab"] |= {one: vocabulary[other], other: vocabulary[one]}
        yield "ids exchanged", changed
    for number in {*range(0, len(merges), 7), len(merges) - 1}:
        left, right = merges[number]
        follow = (number + 1) % len(merges)
        for how, new in (
            ("merge left out", merges[:number] + merges[number + 1 :]),
            ("merge doubled", [*merges[:number], merges[number], *merges[number:]]),
            ("merge turned round", [*merges[:number], [right, left], *merges[number + 1 :]]),
            (
                "merges exchanged",
                [
                    merges[follow] if at == number else merges[number] if at == follow else each
                    for at, each in enumerate(merges)
                ],
            ),
        ):
            if new != merges:
                changed = shallow_copy(value)
                changed["model"]["merges"] = new
                yield how, changed
    for dropped in ({by_id[0]}, {by_id[-1]}, set(by_id[513:558]), set(by_id[512:])):
        changed = shallow_copy(value)
        changed["model"]["vocab"] = {
            name: number for name, number in vocabulary.items() if name not in dropped
        }
        yield "ids left out", changed
    changed = shallow_copy(value)
    changed["model"]["vocab"] |= {"<one more>": len(vocabulary)}
    yield "id added", changed


FILES = [
    *(("mul_tokens", name) for name in JSON_FILES),
    ("digits", "tokenizer.json"),
    ("digits", "tokenizer_config.json"),
]


@pytest.mark.parametrize(("condition", "name"), FILES)
def test_every_changed_entry_of_a_json_file_is_caught_and_counted(
    exports, tmp_path, condition, name
):
    export = exports[condition]._replace(directory=tmp_path / "export")
    shutil.copytree(exports[condition].directory, export.directory)
    path = export.directory / name
    value, content = json.loads(path.read_text()), path.read_bytes()
    faults = [*changed_json(value, name == "tokenizer.json"), *planted(name, value)]
    if (condition, name) == ("mul_tokens", "tokenizer.json"):
        faults += changed_vocabulary(value)
    injected, missed = Counter(), []
    for how, changed in faults:
        assert first_difference(changed, value), "a fault that changes nothing shows nothing"
        path.write_text(json.dumps(changed))
        injected[how] += 1
        if not stops(export, name):
            missed.append((how, first_difference(changed, value)))
    assert not missed
    path.write_text(json.dumps(dict(reversed(value.items()))))
    assert not stops(export), "the order of keys means nothing"
    path.write_bytes(content)
    assert not stops(export)
    print(f"{condition} {name}: {sum(injected.values())} faults, all caught: {dict(injected)}")


TEXT_FAULTS = {
    "a key twice": lambda text: text.replace("{", '{"vocab_size": 1, "vocab_size": 1,', 1),
    "no JSON": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: f"[{text}]",
    "NaN": lambda text: text.replace("{", '{"attn_pdrop": NaN,', 1),
    "nested without end": lambda text: "[" * 100_000,
    "no Unicode": lambda text: text.replace("{", '{"\udcff": 1,', 1),
}


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("fault", TEXT_FAULTS.values(), ids=TEXT_FAULTS)
def test_a_file_that_readers_may_read_differently_is_caught(export, name, fault):
    path = export.directory / name
    path.write_bytes(fault(path.read_text()).encode(errors="surrogateescape"))
    assert stops(export, name)


def test_every_file_taken_away_added_or_replaced_is_caught_and_counted(export):
    names = sorted(path.name for path in export.directory.iterdir())
    injected = 0
    for name in names:
        path = export.directory / name
        content = path.read_bytes()
        for fault in ("missing", "empty", "cut", "longer", "folder", "link"):
            path.unlink()
            if fault == "folder":
                path.mkdir()
            elif fault == "link":
                (export.directory.parent / name).write_bytes(content)
                path.symlink_to(export.directory.parent / name)
            elif fault != "missing":
                path.write_bytes(
                    {"empty": b"", "cut": content[:-3], "longer": content + b"}"}[fault]
                )
            assert stops(export, name), (name, fault)
            injected += 1
            path.rmdir() if fault == "folder" else path.unlink(missing_ok=True)
            path.write_bytes(content)
    for name in (
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "modeling_gpt2.py",
        "pytorch_model.bin",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
        "custom_generate",
        ".hidden",
        "README.md",
        "SHA256SUMS",
        "tokenizer.model",
    ):
        (export.directory / name).write_text("{}")
        assert stops(export, name)
        injected += 1
        (export.directory / name).unlink()
    (export.directory / "sub").mkdir()
    assert stops(export, "sub")
    (export.directory / "sub").rmdir()
    assert not stops(export)
    print(f"files: {injected + 1} faults, all caught")


def tensor_faults(
    tensors: dict[str, torch.Tensor], name: str
) -> Iterator[tuple[str, dict[str, torch.Tensor | None]]]:
    """Yield kinds of fault in the tensor called `name`, with what takes its place; None is
    nothing.
    """
    tensor = tensors[name]
    yield "dropped", {name: None}
    yield "renamed", {name: None, f"_orig_mod.{name}": tensor}
    yield "added", {f"{name}.2": tensor.clone()}
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        yield f"as {dtype}", {name: tensor.to(dtype)}
    if tensor.dim() == 2:
        yield "transposed", {name: tensor.T.contiguous()}
    else:
        yield "of another shape", {name: tensor[None]}
    yield "cut", {name: tensor[:-1].contiguous()}
    yield "rolled", {name: tensor.roll(1, dims=0)}
    for place in (0, tensor.numel() - 1):
        changed = tensor.clone()
        flat = changed.view(-1)
        flat[place] = torch.nextafter(flat[place], torch.tensor(torch.inf))
        yield "one element by its last bit", {name: changed}
    changed = tensor.clone()
    changed.view(-1)[1] = torch.nan
    yield "one element not a number", {name: changed}


def test_every_altered_tensor_is_caught_and_counted(export):
    path = export.directory / "model.safetensors"
    tensors, content = load_file(path), path.read_bytes()
    injected = Counter()
    for name in tensors:
        for how, changes in tensor_faults(tensors, name):
            changed = {
                key: tensor for key, tensor in {**tensors, **changes}.items() if tensor is not None
            }
            save_file(changed, path, metadata={"format": "pt"})
            assert stops(export), (name, how)
            injected[how] += 1
    shaped: dict[tuple, list[str]] = {}
    for name, tensor in tensors.items():
        shaped.setdefault(tuple(tensor.shape), []).append(name)
    for names in shaped.values():
        for one, other in pairwise(names):
            save_file(
                {**tensors, one: tensors[other], other: tensors[one]},
                path,
                metadata={"format": "pt"},
            )
            assert stops(export), (one, other)
            injected["two exchanged"] += 1
    for head in (
        tensors["transformer.wte.weight"].clone(),
        tensors["transformer.wte.weight"].flip(0).contiguous(),
    ):
        save_file({**tensors, "lm_head.weight": head}, path, metadata={"format": "pt"})
        assert stops(export, "lm_head.weight")
        injected["a head"] += 1
    for metadata in (
        None,
        {"format": "tf"},
        {"format": "pt", "transformer.wte.weight": "lm_head.weight"},
    ):
        save_file(tensors, path, metadata=metadata)
        assert stops(export, "metadata")
        injected["metadata"] += 1
    path.write_bytes(content)
    assert not stops(export)
    print(f"model.safetensors: {sum(injected.values())} faults, all caught: {dict(injected)}")


def test_minus_zero_for_zero_is_caught(exports, tmp_path):
    source = exports["baseline"].source
    model = copy.deepcopy(source.model)
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = 0.0
        loss = mean_loss(model(source.rows[:, :-1]), source.rows[:, 1:])
    export = Made(tmp_path / "export", source._replace(model=model, loss=loss))
    write(*export)
    assert not stops(export)
    path = export.directory / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.ln_f.bias"][0] = -0.0
    save_file(tensors, path, metadata={"format": "pt"})
    assert stops(export, "transformer.ln_f")


def test_the_tokenizer_of_another_condition_is_caught_and_counted(exports, conditions, tmp_path):
    """The experiment's own variable: with the other vocabulary a baseline would learn facts."""
    pairs = [(mine, other) for mine in conditions for other in conditions if mine != other]
    for mine, other in pairs:
        export = Made(tmp_path / f"{mine}-{other}", exports[mine].source)
        write(*export, conditions[other])
        assert stops(export, "tokenizer.json: ")
    print(f"the tokenizer of another condition: {len(pairs)} faults, all caught")


READERS: dict[str, tuple[str, Callable]] = {}


def reader(attribute: str) -> Callable:
    """Note a change of what the function `attribute` of the gate returns."""

    def note(change: Callable) -> Callable:
        READERS[change.__name__] = attribute, change
        return change

    return note


@reader("AutoTokenizer.from_pretrained")
def auto_tokenizer_lowers_the_case(loaded):
    loaded.backend_tokenizer.normalizer = Lowercase()


@reader("AutoTokenizer.from_pretrained")
def auto_tokenizer_has_another_end_of_text(loaded):
    loaded.eos_token = "the"


@reader("AutoTokenizer.from_pretrained")
def auto_tokenizer_has_a_pad_token(loaded):
    loaded.pad_token = "!"


@reader("AutoTokenizer.from_pretrained")
def auto_tokenizer_reads_end_of_text_in_a_text(loaded):
    loaded.backend_tokenizer.encode_special_tokens = False
    loaded.split_special_tokens = False


@reader("read_hugging_face_directory")
def our_reader_lowers_the_case(read):
    read.tokenizer.normalizer = Lowercase()


@reader("read_hugging_face_directory")
def our_reader_reads_end_of_text_in_a_text(read):
    read.tokenizer.encode_special_tokens = False


@reader("read_hugging_face_directory")
def our_reader_adds_a_token(read):
    read.tokenizer.add_tokens(["<one more>"])


@reader("read_hugging_face_directory")
def our_reader_alters_a_weight(read):
    read.tensors["h.0.ln_1.bias"][3] += 1e-6


@reader("read_hugging_face_directory")
def our_reader_loses_a_weight(read):
    del read.tensors["h.0.ln_1.bias"]


@reader("load_hugging_face_model")
def the_loader_alters_a_weight(model):
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.bias[0] += 1e-6


@reader("load_hugging_face_model")
def the_loader_unties_the_head(model):
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())


@reader("load_hugging_face_model")
def the_loader_has_another_activation(model):
    model.transformer.h[0].mlp.act = torch.nn.ReLU()


@reader("load_hugging_face_model")
def the_loader_has_a_repetition_penalty(model):
    model.generation_config.repetition_penalty = 1.5


@reader("load_hugging_face_model")
def the_loader_has_another_config(model):
    model.config.n_head = 4


@reader("AutoModelForCausalLM.from_pretrained")
def plain_transformers_alters_a_weight(model):
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] += 1e-6


@reader("AutoModelForCausalLM.from_pretrained")
def plain_transformers_loads_halves(model):
    model.half()


@reader("AutoModelForCausalLM.from_pretrained")
def plain_transformers_samples(model):
    model.generation_config.do_sample = True


@reader("AutoConfig.from_pretrained")
def plain_transformers_has_another_config(config):
    config = (
        config[0] if isinstance(config, tuple) else config
    )  # as AutoModelForCausalLM asks for it
    config.eos_token_id = 3


@reader("GenerationConfig.from_pretrained")
def plain_transformers_suppresses_a_token(generation):
    generation.suppress_tokens = [5]


@pytest.mark.parametrize("name", READERS)
def test_a_reader_that_reads_something_else_is_caught(export, monkeypatch, name):
    attribute, change = READERS[name]
    right = gate
    for part in attribute.split("."):
        right = getattr(right, part)

    def wrong(*arguments, **options):
        result = right(*arguments, **options)
        change(result)
        return result

    monkeypatch.setattr(f"model.export.gate.{attribute}", wrong)
    assert stops(export)


def test_a_plain_tokenizer_that_reads_something_else_is_caught(export, monkeypatch):
    right = tokenizers.Tokenizer.from_file

    class Wrong:
        @staticmethod
        def from_file(path):
            found = right(path)
            found.normalizer = Lowercase()
            return found

    monkeypatch.setattr("model.export.gate.tokenizers.Tokenizer", Wrong)
    assert stops(export, "tokenizer.json as tokenizers reads it: normalizer ")


def test_generation_is_greedy_by_the_right_file(export):
    generation = GenerationConfig.from_pretrained(export.directory)
    assert (generation.do_sample, generation.repetition_penalty) in ((False, 1.0), (None, None))


@pytest.fixture
def kept(export, tmp_path):
    """Run `keep_export` with a fault that comes after the verification; return what is at the place
    of the export.
    """

    def run(fault: Callable[[Path], None]) -> Path:
        place = tmp_path / "kept"

        def card(_) -> str:
            fault(place.with_name(".kept.partial"))
            return "a card"

        keep_export(
            place,
            lambda output: shutil.copytree(export.directory, output, dirs_exist_ok=True),
            export.source,
            card,
            TOLERANCE,
        )
        return place

    return run


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


LATE = {
    **{
        f"{name} altered": lambda folder, name=name: flipped(folder / name)
        for name in (*JSON_FILES, "model.safetensors")
    },
    **{
        f"{name} removed": lambda folder, name=name: (folder / name).unlink()
        for name in (*JSON_FILES, "model.safetensors")
    },
    "a file added": lambda folder: (folder / "vocab.json").write_text("{}"),
    "a folder added": lambda folder: (folder / "sub").mkdir(),
    "weights replaced by a link": lambda folder: (
        (folder / "model.safetensors").rename(folder.parent / "w"),
        (folder / "model.safetensors").symlink_to(folder.parent / "w"),
    ),
}


@pytest.mark.parametrize("fault", LATE.values(), ids=LATE)
def test_what_is_altered_after_the_verification_is_not_kept(kept, tmp_path, fault):
    with pytest.raises(
        PipelineError,
        match=r"changed after it was verified|is not a file; an export holds only files",
    ):
        kept(fault)
    assert not (tmp_path / "kept").exists()


def test_checksums_are_read_back(kept, tmp_path, monkeypatch):
    right = Path.write_bytes
    monkeypatch.setattr(
        Path,
        "write_bytes",
        lambda path, content: right(path, content + b"!" * (path.name == CHECKSUMS)),
    )
    with pytest.raises(PipelineError, match="SHA256SUMS changed after it was written"):
        kept(lambda _: None)
    assert not (tmp_path / "kept").exists()


def test_what_is_kept_has_card_and_checksums(kept):
    place = kept(lambda _: None)
    assert (place / "README.md").read_text() == "a card"
    assert verified_directory(place) == place
    assert len((place / CHECKSUMS).read_text().splitlines()) == 6


def test_what_is_altered_after_the_gate_is_not_read(kept):
    place = kept(lambda _: None)
    for name in sorted(path.name for path in place.iterdir()):
        content = (place / name).read_bytes()
        flipped(place / name)
        with pytest.raises(PipelineError, match="missing or altered since it was written"):
            verified_directory(place)
        (place / name).write_bytes(content)
    verified_directory(place)


def test_the_specification_is_the_exporters_and_derived_without_it(exports):
    for made in exports.values():
        expected = expected_json(made.source.model, made.source.tokenizer)
        assert sorted(expected) == list(JSON_FILES)
        for name, content in expected.items():
            assert first_difference(read_exactly(made.directory / name), content) is None
    from model.export import specification

    named = Path(specification.__file__).read_text().split('"""', 2)[2]
    assert "model.export.weight_map" not in named
    assert "model.tokens.byte_level" not in named


@pytest.mark.parametrize("attribute", ["merges", "byte_characters"])
def test_a_fault_in_what_the_exporter_derives_is_caught(exports, tmp_path, monkeypatch, attribute):
    from model.export import hf_tokenizer

    right = getattr(hf_tokenizer, attribute)

    def wrong(*arguments):
        found = right(*arguments)
        if attribute == "merges":
            return found[:-1]
        return {**found, 200: found[201], 201: found[200]}

    monkeypatch.setattr(hf_tokenizer, attribute, wrong)
    export = Made(tmp_path / "export", exports["baseline"].source)
    write(*export)
    assert stops(export, "tokenizer.json: model.")


@pytest.mark.parametrize(
    ("found", "expected", "words"),
    [
        ({"a": 1}, {"a": True}, "a is 1, expected true"),
        ({"a": 1}, {"a": 1.0}, "a is 1, expected 1.0"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1]}}, "a.b.1 is 2, expected no such entry"),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b.1 is missing, expected 2"),
        ({}, {"a": None}, "a is missing, expected null"),
        ({"a": None}, {}, "a is null, expected no such entry"),
        ([], {}, "the whole is [], expected {}"),
        ({"a": "x" * 99}, {"a": ""}, f'a is "{"x" * 59}…, expected ""'),
    ],
)
def test_a_difference_is_named_by_its_key_and_both_values(found, expected, words):
    assert first_difference(found, expected) == words
    assert first_difference(expected, expected) is None


PLACE = ("baseline", 1, 7)
BASELINE = TokenizeParams(base_ranks=512, pattern=None, mul_facts=False)
FACTS = BASELINE.model_copy(update={"mul_facts": True})


@pytest.fixture
def origin(tmp_path, conditions) -> tuple[Path, Path]:
    """A checkpoint of the baseline and its token shards, with the vocabulary."""
    tokenizer = conditions["baseline"]
    network = GPTConfig(layers=1, heads=2, width=16, context=32, vocab_size=tokenizer.size)
    save_checkpoint(tmp_path / "checkpoint", random_gpt(network), checkpoint_config(network))
    documents = [[512, *range(number, number + 40)] for number in range(5)]
    write_token_split(tmp_path / "tokens", documents, vocab_size=tokenizer.size)
    tokenizer.save(tmp_path / "tokens")
    write_checksums(tmp_path / "tokens")
    return tmp_path / "checkpoint", tmp_path / "tokens"


def test_a_source_is_what_the_gate_reads_for_itself(origin):
    source, config, digest = read_source(*origin, PLACE, BASELINE)
    assert (config.condition, config.seed, config.step) == PLACE
    assert source.loss == config.canary_loss
    assert len(digest) == 64
    rows, _ = canary_rows(
        TokenSplit(origin[1], "val"), config.canary_documents, config.network.context
    )
    assert torch.equal(source.rows, rows)
    ours = load_model(*read_checkpoint(origin[0])).state_dict()
    assert all(
        torch.equal(tensor, ours[name]) for name, tensor in source.model.state_dict().items()
    )


@pytest.mark.parametrize("place", [("mul_tokens", 1, 7), ("baseline", 2, 7), ("baseline", 1, 8)])
def test_a_checkpoint_of_another_run_is_refused(origin, place):
    with pytest.raises(PipelineError, match="holds baseline, seed 1, step 7; rerun pretrain"):
        read_source(*origin, place, BASELINE)


def with_vocabulary(tokens: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tokens)


def with_index(**changes) -> Callable[[Path, Any], None]:
    def change(tokens: Path, _) -> None:
        path = tokens / "index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def with_facts_in_the_shards(tokens: Path, _) -> None:
    path = tokens / "index.json"
    index = json.loads(path.read_text())
    index["splits"]["train"][0]["mul_fact_tokens"] = 3
    path.write_text(Index(**index).model_dump_json())


@pytest.mark.parametrize(
    ("change", "chosen", "message"),
    [
        (
            lambda *_: None,
            FACTS,
            r"vocabulary\.json: mul_facts is False, condition baseline has True",
        ),
        (
            lambda *_: None,
            BASELINE.model_copy(update={"pattern": r"\p{L}|(?s:.)"}),
            r"vocabulary\.json: pattern is .*, condition baseline has",
        ),
        (
            lambda *_: None,
            BASELINE.model_copy(update={"base_ranks": 300}),
            r"ranks\.tiktoken: base_ranks is 512, condition baseline has 300",
        ),
        (
            lambda tokens, all_of: with_vocabulary(tokens, all_of["mul_tokens"]),
            BASELINE,
            "mul_facts is True, condition baseline",
        ),
        (
            lambda tokens, all_of: with_vocabulary(tokens, all_of["digits"]),
            BASELINE,
            "pattern is .*, condition baseline has",
        ),
        (
            with_index(condition="mul_tokens"),
            BASELINE,
            r"index\.json: condition is 'mul_tokens', condition baseline has 'base",
        ),
        (
            with_index(vocab_size=640),
            BASELINE,
            r"index\.json: vocab_size is 640, condition baseline has 576",
        ),
        (
            with_facts_in_the_shards,
            BASELINE,
            r"index\.json: mul_fact_tokens is 3, condition baseline has 0",
        ),
    ],
)
def test_a_vocabulary_of_another_condition_is_refused_wherever_it_was_exchanged(
    origin, conditions, change, chosen, message
):
    change(origin[1], conditions)
    write_checksums(origin[1])
    with pytest.raises(PipelineError, match=message):
        read_source(*origin, PLACE, chosen)


def test_training_refuses_the_tokens_of_another_condition(tmp_path, monkeypatch):
    """Whole directories of two conditions exchanged: found before a step is trained, not at the
    export.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(REPOSITORY / "profiles/micro.yaml", "params.yaml")
    write_token_split(Path("data/tokens/mul_tokens"), [[99, 1, 2, 3]])
    monkeypatch.setattr(sys, "argv", ["pretrain", "mul_tokens", "1"])
    for name in ("set_numerics", "keep_freed_memory"):
        monkeypatch.setattr(pretrain, name, lambda *_: None)
    with pytest.raises(
        PipelineError, match="data/tokens/mul_tokens: holds the tokens of baseline; rerun tokenize"
    ):
        pretrain.main()


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json"])
def test_a_file_that_fine_tuning_copies_and_is_not_there_is_one_line(export, tmp_path, name):
    model = load_hugging_face_model(export.directory)
    (export.directory / name).unlink()
    with pytest.raises(
        PipelineError,
        match=rf"{export.directory}: no {name}, which every export has; run dvc repro export",
    ):
        sft.save(model, export.directory, tmp_path / "step_7", {})
