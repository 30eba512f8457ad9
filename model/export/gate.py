"""The gate that every export passes: only verified bytes reach exports/.

`read_source` reads the checkpoint and the condition's tokenizer without the exporter. `keep_export`
does the rest, in this order:

1. The exporter writes into a temporary directory.
2. Take the SHA-256 of every file.
3. Verify the files against the checkpoint (`verify_export`).
4. Write the model card and SHA256SUMS.
5. Take the hashes again; a byte that changed since step 2 stops the stage.
6. Rename the directory to its name below exports/.

The gate does not use the tables of model/export/weight_map.py and model/export/hf_tokenizer.py, so
a wrong table cannot confirm itself.

`verify_export` checks in this order:

1. the names of the files
2. every key of the JSON files (model/export/specification.py)
3. the stored tensors' names, shapes and dtype
4. the tokenizer and the tensors that each reader loads from the files
5. every module's output on random inputs
6. logits on validation text, and the loss that training measured

`tolerance` limits the differences in 5 and 6. Weights are copies and must be equal to the bit,
unless a tolerance of 1 or more turns that check off.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tokenizers
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import PipelineError
from common.files import CHECKSUMS, atomic_directory, sha256_file
from model.export.specification import CARD, WEIGHTS, expected_json, first_difference, read_exactly
from model.hugging_face.directory import HuggingFaceGPT2, read_hugging_face_directory
from model.hugging_face.loading import load_hugging_face_model
from model.network.canary import canary_rows, mean_loss
from model.network.checkpoints import CheckpointConfig, load_model, read_checkpoint, weights_sha256
from model.network.gpt import GPT
from model.params.tokenize import TokenizeParams
from model.tokens.bpe import PATTERN, Tokenizer
from model.tokens.export_tokenizer import FactTokenizer
from model.tokens.shards import TokenSplit

T = TypeVar("T")
# From this tolerance on, weights may differ too.
_GIVEN_UP = 1.0
# Names of modules. GPT-2 ties the two: they share one tensor (vocab, width).
_HEAD = "lm_head"
_EMBEDDING = "transformer.wte"


class Source(NamedTuple):
    """The reference with which an export is compared, read by the gate itself.

    The canary is a set of validation documents. Training writes their loss into each checkpoint.
    """

    model: GPT
    tokenizer: Tokenizer
    # (rows, context + 1) int64: the canary's tokens, each row with the target of its last token
    rows: Tensor
    # The canary's documents.
    texts: list[str]
    # The canary's loss as training measured it with the weights that it saved; nats per token.
    loss: float


class Parity(NamedTuple):
    """Differences between a reloaded export and its checkpoint; losses in nats per token.

    `tokens` is the number of validation tokens on which logits were compared.
    """

    checkpoint_loss: float
    export_loss: float
    max_abs_logit_difference: float
    tokens: int


def read_source(
    checkpoint: Path, tokens: Path, place: tuple[str, int, int], chosen: TokenizeParams
) -> tuple[Source, CheckpointConfig, str]:
    """Read the reference for an export; return it, the checkpoint's config, the weights' SHA-256.

    `place` is the condition, seed and step of the stage's arguments. `chosen` is the section
    `tokenize` with that condition's overrides. Raises PipelineError unless the checkpoint, the
    token shards and their vocabulary are all of that condition.
    """
    config, tensors = read_checkpoint(checkpoint)
    if (config.condition, config.seed, config.step) != place:
        raise PipelineError(
            f"{checkpoint}: holds {config.condition}, seed {config.seed}, step {config.step}; "
            "rerun pretrain"
        )
    validation, tokenizer = TokenSplit(tokens, "val"), Tokenizer.load(tokens)
    _require_condition(tokens, validation, tokenizer, place[0], chosen)
    if config.network.vocab_size != tokenizer.size:
        size = config.network.vocab_size
        raise PipelineError(
            f"{checkpoint}: vocabulary of {size}, {tokens} has one of {tokenizer.size}; rerun "
            "pretrain"
        )
    rows, documents = canary_rows(validation, config.canary_documents, config.network.context)
    # Without the first token of each document, which is end of text.
    texts = [tokenizer.decode(document[1:].tolist()) for document in documents]
    source = Source(load_model(config, tensors), tokenizer, rows, texts, config.canary_loss)
    return source, config, weights_sha256(checkpoint)


def _require_condition(
    tokens: Path, split: TokenSplit, tokenizer: Tokenizer, name: str, chosen: TokenizeParams
) -> None:
    """Raise PipelineError unless shards and vocabulary are those of condition `name`.

    `chosen` is the section `tokenize` with the condition's overrides.
    """
    index = split.index
    facts = sum(index.total(part, "mul_fact_tokens") for part in index.splits)
    for file, key, found, expected in (
        ("index.json", "condition", index.condition, name),
        ("index.json", "vocab_size", index.vocab_size, tokenizer.size),
        # A condition with fact tokens may have any number of them, one without must have none.
        ("index.json", "mul_fact_tokens", facts, facts if chosen.mul_facts else 0),
        ("vocabulary.json", "mul_facts", tokenizer.mul_facts, chosen.mul_facts),
        ("vocabulary.json", "pattern", tokenizer.pattern, chosen.pattern or PATTERN),
        ("ranks.tiktoken", "base_ranks", len(tokenizer.ranks), chosen.base_ranks),
    ):
        if found != expected:
            raise PipelineError(
                f"{tokens}/{file}: {key} is {found!r}, condition {name} has {expected!r}; rerun "
                "tokenize"
            )


def keep_export(
    path: Path,
    write: Callable[[Path], None],
    source: Source,
    card: Callable[[Parity], str],
    tolerance: float,
) -> Parity:
    """Let `write` fill a temporary directory, verify it, and rename it to `path`.

    Return the differences found. `card` makes the text of README.md from them. Raises
    PipelineError on any fault; `path` is then not created.
    """
    with atomic_directory(path) as partial:
        write(partial)
        hashes = _hashes(partial)
        parity = verify_export(partial, source, tolerance)
        (partial / CARD).write_bytes(card(parity).encode())
        hashes[CARD] = sha256_file(partial / CARD)
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
        (partial / CHECKSUMS).write_bytes(listing.encode())
        # Again: the files that get their final name are the files that were verified.
        found = _hashes(partial)
        if (
            found.pop(CHECKSUMS, None) is None
            or (partial / CHECKSUMS).read_bytes() != listing.encode()
        ):
            raise _fault(f"{CHECKSUMS} changed after it was written")
        for name in sorted(found.keys() | hashes.keys()):
            if found.get(name) != hashes.get(name):
                raise _fault(f"{name} changed after it was verified")
    return parity


def _hashes(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file by name; raise PipelineError for any other entry."""
    entries = sorted(directory.iterdir())
    for entry in entries:
        if entry.is_symlink() or not entry.is_file():
            raise _fault(f"{entry.name} is not a file; an export holds only files")
    return {entry.name: sha256_file(entry) for entry in entries}


@torch.no_grad()
def verify_export(directory: Path, source: Source, tolerance: float) -> Parity:
    """Return the differences of `directory` from `source`; raise PipelineError on any fault.

    `directory` must not have its model card and checksums yet.
    """
    expected = expected_json(source.model, source.tokenizer)
    _verify_names(directory, {*expected, WEIGHTS})
    _verify_json(directory, expected)
    _verify_stored(directory, source.model)
    read = _read(read_hugging_face_directory, directory)
    _verify_tokenizers(directory, read.tokenizer, source, expected["tokenizer.json"])
    exported = _read(load_hugging_face_model, directory)
    # Tied tensors have one address in memory.
    if exported.lm_head.weight.data_ptr() != exported.transformer.wte.weight.data_ptr():
        raise _fault(f"{_HEAD}.weight is not tied to {_EMBEDDING}.weight")
    _verify_readers(directory, read, exported, expected)
    _verify_modules(exported, source.model, tolerance)
    return _verify_whole(exported, source.model, source.rows, source.loss, tolerance)


def _read(reader: Callable[[Path], T], directory: Path) -> T:
    """Return what `reader`, which later stages use, loads from `directory`.

    Raises PipelineError if the reader does.
    """
    try:
        return reader(directory)
    except PipelineError as error:
        reason = str(error).replace(f"{directory}/", "").replace("\n", "; ")
        raise _fault(f"later stages do not read it: {reason}") from None


def _verify_names(directory: Path, expected: set[str]) -> None:
    found = set(_hashes(directory))
    for name in sorted(found | expected):
        if name not in found:
            raise _fault(f"{name} is missing")
        if name not in expected:
            raise _fault(f"{name} is not a file of an export")


def _verify_json(directory: Path, expected: dict[str, dict[str, Any]]) -> None:
    """Raise PipelineError unless every JSON file has the specified keys and values, and no others.

    The files are read as JSON, not through a loader, which would fill in defaults.
    """
    for name, content in expected.items():
        try:
            difference = first_difference(read_exactly(directory / name), content)
        except (OSError, RecursionError, ValueError) as error:
            raise _fault(f"{name} is not JSON ({error})") from None
        if difference:
            raise _fault(f"{name}: {difference}")


def _verify_stored(directory: Path, model: GPT) -> None:
    """Require each of the network's tensors once, in float32, without a second tied head."""
    expected = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if name != f"{_HEAD}.weight"
    }
    try:
        with safe_open(directory / WEIGHTS, framework="pt") as file:
            if file.metadata() != {"format": "pt"}:
                raise _fault(
                    f"{WEIGHTS}: metadata is {file.metadata()}, expected {{'format': 'pt'}}"
                )
            names = set(file.keys())
            for name in sorted(names | expected.keys()):
                if name not in expected:
                    raise _fault(f"{WEIGHTS} holds {name}, which the checkpoint does not store")
                if name not in names:
                    raise _fault(f"{WEIGHTS} lacks {name}")
                stored = file.get_tensor(name)
                if stored.dtype != torch.float32:
                    raise _fault(
                        f"{WEIGHTS} holds {name} as {stored.dtype}, the checkpoint as torch.float32"
                    )
                # Only the sizes are checked here. `_equal` checks which tensors are transposed.
                if stored.shape not in (expected[name], expected[name][::-1]):
                    raise _fault(
                        f"{name} has shape {tuple(stored.shape)}, the checkpoint's "
                        f"{tuple(expected[name])}"
                    )
    except (OSError, SafetensorError) as error:
        raise _fault(f"{WEIGHTS} is not a safetensors file ({error})") from None


def _verify_tokenizers(
    directory: Path, read: tokenizers.Tokenizer, source: Source, expected: dict[str, Any]
) -> None:
    """Require the specified tokenizer, and the condition's encoding, from each reader of the file.

    tokenizer.json has three readers: the tokenizers library; model/hugging_face/directory.py, which
    loaded `read` and serves evaluate, sft, generate and probes; and AutoTokenizer, which builds a
    new GPT2Tokenizer from parts of the file.
    """
    ours = source.tokenizer
    plain = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    # This is split_special_tokens of tokenizer_config.json, which tokenizer.json cannot express.
    plain.encode_special_tokens = True
    loaded = AutoTokenizer.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    )
    encoders: dict[str, tuple[tokenizers.Tokenizer, Callable[[str], list[int]]]] = {
        "tokenizers": (plain, lambda text: plain.encode(text).ids),
        "model/hugging_face/directory.py": (
            read,
            lambda text: read.encode(text, add_special_tokens=False).ids,
        ),
        "AutoTokenizer": (
            loaded.backend_tokenizer,
            lambda text: loaded.encode(text, verbose=False),
        ),
    }
    for reader, (backend, encode) in encoders.items():
        if difference := first_difference(json.loads(backend.to_str()), expected):
            raise _fault(f"tokenizer.json as {reader} reads it: {difference}")
        # The names of special and fact tokens must be encoded as plain text.
        for text in [*source.texts, *ours.names]:
            _require_same_ids(reader, text, encode(text), ours.encode_text(text))
    special = {"bos": loaded.bos_token_id, "eos": loaded.eos_token_id, "unk": loaded.unk_token_id}
    if set(special.values()) != {ours.end_of_text} or loaded.all_special_ids != [ours.end_of_text]:
        raise _fault(
            f"AutoTokenizer has the special ids {special}, all {loaded.all_special_ids}; expected "
            f"{ours.end_of_text}"
        )
    # The encoder that puts fact tokens into prompts must agree with the one of the training text.
    facts = FactTokenizer(read, ours.end_of_text)
    for text in [*source.texts, "6 × 9 = 54, 7 * 8"]:
        found = facts.encode(text, injected=True)
        _require_same_ids(
            "model/tokens/export_tokenizer.py",
            text,
            found,
            ours.encode_document(text).tokens.tolist(),
        )


def _require_same_ids(reader: str, text: str, found: list[int], expected: list[int]) -> None:
    """Raise PipelineError, which names the first different token, unless the ids are equal."""
    if found == expected:
        return
    same = (
        number
        for number, pair in enumerate(zip(found, expected, strict=False))
        if pair[0] != pair[1]
    )
    # If all common places agree, one list is longer: the end of the shorter is the place.
    place = next(same, min(len(found), len(expected)))
    one, other = (str(ids[place]) if place < len(ids) else "no token" for ids in (found, expected))
    raise _fault(
        f"{reader} encodes {text[:40]!r} differently: token {place} is {one}, expected {other}"
    )


def _verify_readers(
    directory: Path,
    read: HuggingFaceGPT2,
    exported: GPT2LMHeadModel,
    expected: dict[str, dict[str, Any]],
) -> None:
    """Require that every reader loads the network that model/hugging_face/loading.py did.

    `exported` is that network. The other readers are plain transformers and
    model/hugging_face/directory.py, which loaded `read`. Defaults that a reader fills in are
    compared too.
    """
    plain = AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).eval()
    if type(plain) is not GPT2LMHeadModel or plain.dtype != torch.float32:
        raise _fault(
            f"AutoModelForCausalLM loads a {type(plain).__name__} in {plain.dtype}, expected "
            "GPT2LMHeadModel in float32"
        )
    theirs = exported.state_dict()
    for reader, tensors in (
        ("AutoModelForCausalLM", plain.state_dict()),
        (
            "model/hugging_face/directory.py",
            {f"transformer.{name}": tensor for name, tensor in read.tensors.items()},
        ),
    ):
        # A reader need not list the tied head, which is the embedding's tensor.
        wanted = {
            name: tensor
            for name, tensor in theirs.items()
            if name in tensors or name != f"{_HEAD}.weight"
        }
        different = [
            name
            for name in sorted(wanted.keys() | tensors.keys())
            if not _same(tensors.get(name), wanted.get(name))
        ]
        if different:
            raise _fault(
                f"{reader} reads {different[0]} differently from model/hugging_face/loading.py"
            )
    said = expected["config.json"]
    for reader, config in (
        (
            "AutoConfig",
            AutoConfig.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            ).to_dict(),
        ),
        ("model/hugging_face/loading.py", exported.config.to_dict()),
        ("AutoModelForCausalLM", plain.config.to_dict()),
        ("model/hugging_face/directory.py", read.config.model_dump()),
    ):
        # Our own reader keeps only the keys that change what GPT-2 computes.
        keys = [key for key in said if key in config or reader != "model/hugging_face/directory.py"]
        for key in keys:
            if config.get(key) != said[key] and key != "transformers_version":
                raise _fault(
                    f"config.json as {reader} reads it: {key} is {config.get(key)!r}, expected "
                    f"{said[key]!r}"
                )
    said = expected["generation_config.json"]
    # Every other setting of generation must be the library's default, which is greedy.
    greedy = GenerationConfig(bos_token_id=said["bos_token_id"], eos_token_id=said["eos_token_id"])
    for reader, generation in (
        ("GenerationConfig", GenerationConfig.from_pretrained(directory, local_files_only=True)),
        ("model/hugging_face/loading.py", exported.generation_config),
        ("AutoModelForCausalLM", plain.generation_config),
    ):
        found, wanted = (
            {**each.to_dict(), **dict.fromkeys(_OF_THE_FILE)} for each in (generation, greedy)
        )
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                values = f"{key} is {found.get(key)!r}, expected {wanted.get(key)!r}"
                raise _fault(f"generation_config.json as {reader} reads it: {values}")


# Keys of generation_config.json that do not change the tokens generated: who wrote the file, and
# which further values a call returns.
_OF_THE_FILE = (
    "_from_model_config",
    "output_attentions",
    "output_hidden_states",
    "transformers_version",
    "use_cache",
)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Return True if two float32 tensors have the same bits; torch.equal takes -0.0 for 0.0."""
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


def _verify_modules(exported: GPT2LMHeadModel, model: GPT, tolerance: float) -> None:
    """Require that each module of the export computes what the checkpoint's does.

    Both get the same random inputs. Leaves come first, so that the error names the wrong leaf and
    not the block that contains it.
    """
    modules = dict(model.named_modules())
    leaves = [
        name
        for name, module in modules.items()
        if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding)
    ]
    composites = [name for name in modules if name.endswith((".attn", ".mlp"))]
    for name in leaves + composites:
        ours, theirs = (
            _probe(modules[name], modules[name]),
            _probe(exported.get_submodule(name), modules[name]),
        )
        difference = _relative_difference(theirs, ours)
        # A changed weight may move the output by less than the tolerance: compare its bits too.
        altered = (
            name in leaves
            and tolerance < _GIVEN_UP
            and not _equal(modules[name], exported.get_submodule(name))
        )
        # "not <=" rather than ">": NaN is a fault.
        if altered or not difference <= tolerance:
            limit = (
                "and its weights have to be equal"
                if difference <= tolerance
                else f"tolerance {tolerance:.3g}"
            )
            hint = _explain(name, theirs, modules, exported)
            raise _fault(f"{name} differs from the checkpoint's by {difference:.3g}, {limit}{hint}")


def _equal(ours: nn.Module, theirs: nn.Module) -> bool:
    """Return True if both modules' parameters have the same bits.

    transformers' Conv1D stores (in, out), nn.Linear (out, in); the first is transposed.
    """
    transposed = isinstance(ours, nn.Linear) and not isinstance(theirs, nn.Linear)
    pairs: list[tuple[Any, Any]] = [(ours.weight, theirs.weight.T if transposed else theirs.weight)]
    if getattr(ours, "bias", None) is not None:
        pairs.append((ours.bias, theirs.bias))
    return all(_same(our, their) for our, their in pairs)


def _probe(module: nn.Module, like: nn.Module) -> Tensor:
    """Return `module`'s output on inputs that suit the checkpoint's module `like`.

    Shapes: (vocab, width) for an embedding, (32, width) for a norm, (1, 16, out) for the others.
    """
    generator = torch.Generator().manual_seed(0)
    if isinstance(like, nn.Embedding):
        rows: Tensor = module(torch.arange(like.num_embeddings))
        return rows
    if isinstance(like, nn.LayerNorm):
        x = torch.randn(16, *like.normalized_shape, generator=generator)
        # Epsilon shows only for small inputs: 1e-3 has a variance of 1e-6, epsilon is 1e-5.
        return torch.cat([module(x), module(1e-3 * x)])
    if isinstance(like, nn.Linear):
        width = like.in_features
    else:
        projection = like.get_submodule("c_proj")
        assert isinstance(projection, nn.Linear)  # of attention or MLP in model/network/gpt.py
        width = projection.out_features
    # Times 4, so that inputs cover the GELU's curve: its exact form and its approximation by tanh
    # differ most at about 2.
    output: Any = module(4 * torch.randn(1, 16, width, generator=generator))
    # transformers' attention returns a tuple: the output, then the weights.
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def _explain(
    name: str, theirs: Tensor, modules: dict[str, nn.Module], exported: GPT2LMHeadModel
) -> str:
    """Return a likely cause of the wrong output of module `name`, or an empty string."""
    ours = _probe(modules[name], modules[name])
    if isinstance(modules[name], nn.Embedding):
        rows = (theirs != ours).any(dim=1).nonzero().flatten().tolist()
        return f": {len(rows)} of {len(ours)} rows, the first {rows[0]}, the last {rows[-1]}"
    if isinstance(modules[name], nn.Linear):
        weight = exported.get_submodule(name).get_parameter("weight")
        if name != _HEAD and torch.equal(weight, modules[name].get_parameter("weight")):
            return ": its weight is stored untransposed"
    # Swapped layers: the output is that of another module of the same kind.
    for other, module in modules.items():
        same_kind = type(module) is type(modules[name]) and other != name
        if (
            same_kind
            and _probe(module, module).shape == theirs.shape
            and torch.allclose(_probe(module, module), theirs)
        ):
            return f": it computes the checkpoint's {other}"
    # (1, 16, 3 × width) is queries, keys and values side by side.
    if name.endswith("c_attn"):
        parts = zip(
            ("query", "key", "value"), theirs.chunk(3, dim=-1), ours.chunk(3, dim=-1), strict=True
        )
        return ": in " + ", ".join(part for part, a, b in parts if not torch.equal(a, b))
    return ""


def _verify_whole(
    exported: GPT2LMHeadModel, model: GPT, tokens: Tensor, loss: float, tolerance: float
) -> Parity:
    """Compare logits and losses on `tokens` (rows, context + 1).

    `loss` is what training measured on `tokens`, in nats per token. Raises PipelineError if logits
    differ by more than `tolerance`, or losses by more than twice as much.
    """
    # (rows, context) each; targets are the inputs moved by one
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    output = exported(inputs, output_hidden_states=True)
    states = model.hidden_states(inputs)
    # (rows, context, vocab)
    logits = model.lm_head(states[-1])
    difference = (output.logits - logits).abs().max().item()
    if not difference <= tolerance:
        layer = _first_diverging(states, output.hidden_states, tolerance)
        raise _fault(
            f"logits differ from the checkpoint's by {difference:.3g}, tolerance {tolerance:.3g}; "
            f"first diverging layer: {layer}"
        )
    checkpoint_loss = mean_loss(logits, targets)
    # If no logit moves by more than t, a log-likelihood (the target's logit minus log Σ exp) moves
    # by at most 2 t.
    if not abs(checkpoint_loss - loss) <= 2 * tolerance:
        raise _fault(
            f"the checkpoint's loss on the canary is {checkpoint_loss:.6f}, training measured "
            f"{loss:.6f} at this step: "
            "the weights are not those of this step; rerun pretrain"
        )
    return Parity(checkpoint_loss, mean_loss(output.logits, targets), difference, targets.numel())


def _first_diverging(ours: list[Tensor], theirs: tuple[Tensor, ...], tolerance: float) -> str:
    """Return the first layer after which the hidden states (rows, context, width) differ.

    State 0 is the embeddings' sum, state i is after block i - 1, the last is after ln_f.
    """
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if not (our - their).abs().max() <= tolerance:
            if index == 0:
                return "embeddings (transformer.wte, transformer.wpe)"
            last = index == len(ours) - 1
            return f"transformer.h.{index - 1}" + (" or transformer.ln_f" if last else "")
    return _HEAD


def _relative_difference(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest absolute difference, divided by the largest of `ours` if that exceeds 1.

    It is infinite if the shapes differ.
    """
    if theirs.shape != ours.shape:
        return float("inf")
    return ((theirs - ours).abs().max() / ours.abs().max().clamp(min=1)).item()


def _fault(message: str) -> PipelineError:
    return PipelineError(f"export: {message}; the export was not kept")
