"""Read a Hugging Face GPT-2 directory strictly: configuration, tensors and tokenizer.

This module does not import transformers, which would double the start-up time of an evaluation. It
raises an error where transformers would guess, ignore, or fill in random values. Tests compare what
both compute. Weights are in model.safetensors, or in the shards that model.safetensors.index.json
lists.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from common.errors import PipelineError, printable
from common.sections import read_json, validate

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Files to fetch from a hub. Older versions of transformers wrote the last two, which list tokens.
PATTERNS = (
    "config.json", WEIGHTS, INDEX, "model-*.safetensors", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_SAVE = "transformers' AutoModelForCausalLM.from_pretrained(…).save_pretrained(…) writes it"
_SAVE_TOKENIZER = (
    "transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…) writes one that fits"
)


class HuggingFaceGPT2Config(BaseModel):
    """The keys of config.json that decide what GPT-2 computes, with GPT2Config's defaults.

    A key with a single allowed value excludes variants of GPT-2 that model/scoring/network.py does
    not compute. Keys that are not listed here are ignored.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    model_type: Literal["gpt2"]
    # Two names of one function, GELU's approximation by tanh.
    activation_function: Literal["gelu_new", "gelu_pytorch_tanh"] = "gelu_new"
    add_cross_attention: Literal[False] = False
    bos_token_id: int = Field(default=50256, ge=0)
    layer_norm_epsilon: float = 1e-5
    n_embd: int = Field(default=768, gt=0)
    n_head: int = Field(default=12, gt=0)
    # Width of the MLP; None means 4 × n_embd.
    n_inner: int | None = Field(default=None, gt=0)
    n_layer: int = Field(default=12, gt=0)
    n_positions: int = Field(default=1024, gt=0)
    quantization_config: None = None
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    scale_attn_weights: Literal[True] = True
    tie_word_embeddings: Literal[True] = True
    vocab_size: int = Field(default=50257, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _has_one_name_for_each(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        # transformers accepts these too. A file with both names of a size could contradict itself.
        aliases = {
            "hidden_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
        } & values.keys()
        if aliases:
            raise ValueError(
                f"{', '.join(sorted(aliases))}: a second name of one of GPT-2's own keys; use those"
            )
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        if self.bos_token_id >= self.vocab_size:
            raise ValueError(
                f"bos_token_id ({self.bos_token_id}) is beyond the vocabulary of {self.vocab_size}"
            )
        return self


class HuggingFaceGPT2(NamedTuple):
    """A network: float32 tensors named as in GPT2Model, such as `h.0.attn.c_attn.weight`.

    Projections are stored (in, out), as Conv1D has them.
    """

    config: HuggingFaceGPT2Config
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer


def read_hugging_face_directory(directory: Path) -> HuggingFaceGPT2:
    """Return the network in `directory`, with its tokenizer.

    Raises PipelineError for a missing file, an unknown variant of GPT-2, a tensor that is missing,
    unknown or of another shape, or a tokenizer that `read_tokenizer` rejects.
    """
    _require_file(directory / "config.json", _SAVE)
    config = read_json(directory / "config.json", HuggingFaceGPT2Config)
    tensors = _read_tensors(directory, config)
    return HuggingFaceGPT2(config, tensors, read_tokenizer(directory, config.vocab_size))


def _require_file(path: Path, advice: str) -> None:
    """Raise PipelineError with `advice` unless `path` is a file."""
    if not path.is_file():
        raise PipelineError(f"{path.parent}: no {path.name}; {advice}")


def read_stored(directory: Path) -> tuple[Path, dict[str, Tensor]]:
    """Return the path of the file that lists the tensors, and the tensors by their stored names.

    Raises PipelineError if there are no weights, or if a file is damaged or does not fit the index.
    """
    # transformers prefers the single file if both are there.
    if not (directory / INDEX).is_file() or (directory / WEIGHTS).is_file():
        _require_file(directory / WEIGHTS, f"nor an index of its parts ({INDEX}); {_SAVE}")
        return directory / WEIGHTS, _read_file(directory / WEIGHTS)
    return directory / INDEX, _read_shards(directory)


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise PipelineError(f"{path}: not a safetensors file ({error}); fetch it again") from None


class _Index(BaseModel):
    """model.safetensors.index.json: the shard in which each tensor is."""

    model_config = ConfigDict(extra="ignore", strict=True)

    metadata: dict[str, Any] = Field(default_factory=dict)
    weight_map: dict[str, str] = Field(min_length=1)


def _read_shards(directory: Path) -> dict[str, Tensor]:
    """Return the tensors of all shards.

    Raises PipelineError unless each shard holds exactly the tensors that the index lists for it,
    and all together have the number of bytes that the index states.
    """
    path = directory / INDEX
    index = read_json(path, _Index)
    tensors: dict[str, Tensor] = {}
    files = sorted(set(index.weight_map.values()))
    # A name with a folder could lead out of the directory.
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise PipelineError(
                f"{path}: weight_map: {printable(name)!r} is not the name of a safetensors file of "
                "this directory"
            )
    for name in files:
        _require_file(directory / name, f"which {INDEX} lists; fetch it")
        stored, listed = (
            _read_file(directory / name),
            {key for key, file in index.weight_map.items() if file == name},
        )
        wrong = sorted(stored.keys() ^ listed)
        if wrong:
            there = "lacks" if wrong[0] in listed else "holds"
            raise PipelineError(
                f"{directory / name}: {there} {wrong[0]}, unlike {INDEX}; fetch both again"
            )
        tensors |= stored
    size, said = sum(tensor.nbytes for tensor in tensors.values()), index.metadata.get("total_size")
    if said is not None and said != size:
        raise PipelineError(
            f"{path}: metadata.total_size is {said!r}, the files hold {size} bytes; fetch all of "
            "them again"
        )
    return tensors


def _read_tensors(directory: Path, config: HuggingFaceGPT2Config) -> dict[str, Tensor]:
    """Return GPT2Model's tensors in float32; raise PipelineError unless they fit `config`."""
    path, stored = read_stored(directory)
    # Names of GPT2LMHeadModel have a prefix. Those of GPT2Model, and of OpenAI's gpt2, have none.
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    if len(tensors) != len(stored):
        raise PipelineError(
            f"{path}: a tensor is stored twice, with transformer. before its name and without"
        )
    # Checked first: a huge n_layer would have the code below make as many names.
    if config.n_layer > len(tensors):
        raise PipelineError(
            f"{path}: too few tensors for the {config.n_layer} blocks that config.json says"
        )
    # Old versions of transformers stored causal masks with the weights, as floats, bytes or
    # booleans. The masks follow from the context's length and are dropped.
    for layer in range(config.n_layer):
        for name in ("bias", "masked_bias"):
            tensors.pop(f"h.{layer}.attn.{name}", None)
    odd = [
        name
        for name, tensor in tensors.items()
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16)
    ]
    if odd:
        raise PipelineError(
            f"{path}: {odd[0]} is of type {tensors[odd[0]].dtype}, and has to be float32, float16 "
            "or bfloat16"
        )
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    # The head and the embedding are one tensor (vocab, width). Files have either name, or both.
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, tensors.setdefault("wte.weight", head)):
        raise PipelineError(
            f"{path}: lm_head.weight differs from wte.weight, though config.json ties them"
        )
    shapes, expected = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        _shapes(config),
    )
    if shapes != expected:
        wrong = sorted(
            name
            for name in expected.keys() | shapes.keys()
            if expected.get(name) != shapes.get(name)
        )
        raise PipelineError(
            f"{path}: tensors missing, unknown or of another shape than config.json says: "
            f"{', '.join(wrong[:4])}"
        )
    return {name: tensors[name] for name in expected}


def _shapes(config: HuggingFaceGPT2Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of GPT2Model; projections are (in, out)."""
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    block = {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "attn.c_attn.weight": (width, 3 * width),
        "attn.c_attn.bias": (3 * width,),
        "attn.c_proj.weight": (width, width),
        "attn.c_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (width, inner),
        "mlp.c_fc.bias": (inner,),
        "mlp.c_proj.weight": (inner, width),
        "mlp.c_proj.bias": (width,),
    }
    outer = {
        "wte.weight": (config.vocab_size, width),
        "wpe.weight": (config.n_positions, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    return outer | {
        f"h.{layer}.{name}": shape
        for layer in range(config.n_layer)
        for name, shape in block.items()
    }


class _AddedToken(BaseModel):
    """An entry of added_tokens of tokenizer.json, or added_tokens_decoder of tokenizer_config.json.

    Such a token is found in a text before byte-pair encoding.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    # None in tokenizer_config.json, where the id is the key.
    id: int | None = None
    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = False


class _TokenizerConfig(BaseModel):
    """The keys of tokenizer_config.json that change how a text is encoded.

    Defaults are those of transformers. Other keys are kept, since some name tokens.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    add_prefix_space: bool = False
    added_tokens_decoder: dict[str, _AddedToken] | None = None
    split_special_tokens: bool = False
    tokenizer_class: str | None = None


# GPT2Tokenizer ignores these parts of tokenizer.json and builds its own. Where the file has one of
# the values listed here, it means the same as the built-in part.
_REBUILT: dict[str, tuple[Any, ...]] = {
    "normalizer": (None,),
    "pre_tokenizer.type": ("ByteLevel",),
    "pre_tokenizer.add_prefix_space": (False,),
    "pre_tokenizer.use_regex": (None, True),
    "decoder.type": ("ByteLevel",),
    "model.type": (None, "BPE"),
    "model.dropout": (0, 0.0, None),
    "model.unk_token": (None,),
    "model.continuing_subword_prefix": (None, ""),
    "model.end_of_word_suffix": (None, ""),
    "model.fuse_unk": (None, False),
    "model.byte_fallback": (None, False),
    "model.ignore_merges": (None, False),
}
# GPT2Tokenizer takes <|endoftext|> for these where no file names another token.
_OWN_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
)


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of a directory, which encodes exactly as AutoTokenizer does.

    The directory's model has `vocab_size` ids. Raises PipelineError for a setting with which the
    two would differ, for one that draws ids at random, and for ids that the model lacks.
    """
    path = directory / "tokenizer.json"
    _require_file(path, _SAVE_TOKENIZER)
    content = read_json(path, dict)
    settings = _TokenizerConfig()
    if (directory / "tokenizer_config.json").is_file():
        settings = read_json(directory / "tokenizer_config.json", _TokenizerConfig)
    added = validate(content.get("added_tokens") or [], list[_AddedToken], path, "added_tokens")
    _require_as_transformers(
        directory, content, settings, {token.content: token for token in added}
    )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise PipelineError(f"{path}: not a tokenizer ({error})") from None
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= vocab_size:
        raise PipelineError(
            f"{path}: has a token {last}, and config.json a vocab_size of {vocab_size}"
        )
    for token in added:
        if (found := tokenizer.token_to_id(token.content)) != token.id:
            raise PipelineError(
                f"{path}: added_tokens: {_shown(token.content)} is id {found} by its vocabulary, "
                f"not {token.id}"
            )
    if count := tokenizer.num_special_tokens_to_add(is_pair=False):
        raise PipelineError(
            f"{path}: post_processor adds {count} tokens to every text, which would be scored as "
            "text; set it to null"
        )
    # True: a special token's spelling in a text is encoded as plain text.
    tokenizer.encode_special_tokens = settings.split_special_tokens
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _require_as_transformers(
    directory: Path,
    content: dict[str, Any],
    settings: _TokenizerConfig,
    added: dict[str, _AddedToken],
) -> None:
    """Raise PipelineError if AutoTokenizer would encode differently from tokenizer.json alone.

    For a GPT2Tokenizer, transformers reads only vocabulary, merges, added tokens and post-processor
    from tokenizer.json; the rest is built in. For the other classes it follows the whole file. For
    all of them it adds special tokens that other files name.
    """
    path = directory / "tokenizer.json"
    named = settings.tokenizer_class or read_json(directory / "config.json", dict).get(
        "tokenizer_class"
    )
    rebuilt = named in (None, "GPT2Tokenizer", "GPT2TokenizerFast")
    if not rebuilt and named not in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        raise PipelineError(
            f"{directory}: tokenizer_class is {_shown(named)}, whose own parts are not known here; "
            "GPT2Tokenizer, TokenizersBackend and PreTrainedTokenizerFast are"
        )
    if dropout := _part(content, "model.dropout"):
        raise PipelineError(
            f"{path}: model.dropout is {_shown(dropout)}: a text would get other ids each time; "
            "set it to null"
        )
    for key, allowed in _REBUILT.items() if rebuilt else ():
        found = _part(content, key)
        if not any(found == value and type(found) is type(value) for value in allowed):
            raise PipelineError(
                f"{path}: {key} is {_shown(found)}, for which transformers' GPT2Tokenizer takes "
                f"{_shown(allowed[-1])}; set it to "
                'that, or tokenizer_class in tokenizer_config.json to "TokenizersBackend", '
                "which follows the file"
            )
    if settings.add_prefix_space:
        raise PipelineError(
            f"{directory}/tokenizer_config.json: add_prefix_space is true: every text and ending "
            "would get a space of its own; "
            "set it to false"
        )
    _require_same_tokens(directory, added, settings, rebuilt)


def _part(content: dict[str, Any], key: str) -> Any:
    """Return the value at a dotted key such as "model.dropout", or None if it is missing."""
    value: Any = content
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _require_same_tokens(
    directory: Path, added: dict[str, _AddedToken], settings: _TokenizerConfig, rebuilt: bool
) -> None:
    """Raise PipelineError unless tokenizer.json has the added tokens of all files together.

    transformers adds a token that tokenizer.json lacks. It then encodes a text that contains the
    token's spelling to other ids.
    """
    # Keys of tokenizer_config.json that name tokens, such as bos_token.
    spelled = {
        key: value for key, value in (settings.model_extra or {}).items() if _names_tokens(key)
    }
    file = "tokenizer_config.json"
    # Newer files list all tokens in added_tokens_decoder; then transformers reads no older file.
    if settings.added_tokens_decoder is not None:
        for number, token in settings.added_tokens_decoder.items():
            mine = added.get(token.content)
            if (
                mine is None
                or str(mine.id) != number
                or mine.model_copy(update={"id": None}) != token
            ):
                raise _other_token(
                    directory / file,
                    f"added_tokens_decoder.{number}",
                    token.model_dump(exclude={"id"}),
                )
        missing = added.keys() - {token.content for token in settings.added_tokens_decoder.values()}
        if missing:
            raise PipelineError(
                f"{directory / file}: added_tokens_decoder lacks {_shown(min(missing))}, which "
                "tokenizer.json has; "
                f"{_SAVE_TOKENIZER}"
            )
    else:
        if (directory / "special_tokens_map.json").is_file():
            spelled |= read_json(directory / "special_tokens_map.json", dict)
            file = "special_tokens_map.json"
        if (directory / "added_tokens.json").is_file():
            for name in read_json(directory / "added_tokens.json", dict):
                if name not in added:
                    raise _other_token(directory / "added_tokens.json", "added token", name)
    if rebuilt:
        spelled = {**dict.fromkeys(_OWN_TOKENS, "<|endoftext|>"), **spelled}
    # A value is a token's text, an object with `content`, a list of either, or an object of them.
    for key, value in spelled.items():
        for token in (
            value.values()
            if isinstance(value, dict) and "content" not in value
            else _as_list(value)
        ):
            name = token.get("content") if isinstance(token, dict) else token
            if isinstance(name, str) and not (name in added and added[name].special):
                raise _other_token(directory / file, key, token)


def _names_tokens(key: str) -> bool:
    return key.endswith("_token") or key in ("additional_special_tokens", "extra_special_tokens")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _other_token(path: Path, key: str, token: Any) -> PipelineError:
    return PipelineError(
        f"{path}: {key} is {_shown(token)}, which added_tokens of tokenizer.json does not have "
        "so; transformers would add it "
        f"and encode texts differently; {_SAVE_TOKENIZER}"
    )


def _shown(value: Any) -> str:
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:80]}…"
