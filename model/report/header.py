"""The page's header in words: conditions, network, text and training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.errors import PipelineError
from common.sections import read_json
from model.conditions.effective import Sections, effective_sections, with_effect
from model.conditions.words import differences, settings
from model.tokens.facts import MUL_FACTS

# model/tokens/bpe.py rounds the vocabulary up to a multiple of this.
_VOCABULARY_MULTIPLE = 64
# Sections of params.yaml in which conditions may differ.
_SECTIONS = ("tokenize", "model", "pretrain", "sft")
_PREFIXES = ("", "k", "M", "G", "T")
# Keys of a source that are not part of its name.
_NAMED_IN_SOURCE = ("files", "revision", "sha256", "kind")


def title(conditions: list[str]) -> str:
    """Return the page's title, such as "mul_tokens and wide against baseline"."""
    first, *others = conditions
    return f"{_listed(others)} against {first}" if others else first


def compared(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each condition with its differences from the first, and the first with its overrides.

    An override is a value that a condition has in place of params.yaml's own.
    """
    conditions: Mapping[str, Sections] = params["conditions"]
    first, *_ = conditions
    own = settings(conditions[first])
    others = differences(params, conditions).items()
    rows = [
        (first, ", ".join(own) if own else "as params.yaml says; the others are set against it")
    ]
    same = "the same settings"
    return rows + [
        (name, f"differs in {', '.join(found)}" if found else same) for name, found in others
    ]


def facts(params: Mapping[str, Any], metrics: Path) -> list[tuple[str, str]]:
    """Return the header's rows (name, words) about the network, its text and its training.

    A row whose words differ between conditions names each condition. Raises PipelineError, which
    names the file, if a file below `metrics` lacks its figures.
    """
    conditions: Mapping[str, Sections] = params["conditions"]
    base = {name: params[name] for name in _SECTIONS}
    effective = {
        name: with_effect({**base, **effective_sections(base, own)})
        for name, own in conditions.items()
    }
    texts = {name: _texts(metrics / name / "tokenize.json") for name in conditions}
    ranks = params["fetch"]["ranks"]["count"]

    def each(words: Callable[[str], str]) -> str:
        return _by_condition({name: words(name) for name in conditions})

    rows = [
        ("Network", each(lambda name: _network(effective[name], ranks))),
        ("Text", _text(params, texts)),
        ("Tokens", each(lambda name: _tokens(effective[name], texts[name]))),
        ("Optimizer", each(lambda name: _optimizer(effective[name]["pretrain"]))),
        ("Fine-tuning", each(lambda name: _fine_tuning(effective[name]["sft"], params))),
        ("Seeds", ", ".join(map(str, params["seeds"]))),
        ("Arithmetic", each(lambda name: _arithmetic(effective[name]["pretrain"], params))),
    ]
    return [(name, words) for name, words in rows if words]


def parameter_count(model: Mapping[str, int], vocabulary: int) -> int:
    """Return the number of parameters of a GPT-2 whose output layer is tied to the embedding.

    A block has 12 width² in its four matrices (3 + 1 + 4 + 4), 9 width in their biases, and
    4 width in its two norms. OpenAI's gpt2 (12 layers, width 768, context 1024, vocabulary 50257)
    has 124,439,808.
    """
    width = model["width"]
    blocks = model["layers"] * (12 * width**2 + 13 * width)
    # Embeddings of tokens and positions, blocks, the last norm.
    return (vocabulary + model["context"]) * width + blocks + 2 * width


def vocabulary_size(base_ranks: int | None, ranks: int) -> int:
    """Return the size of the vocabulary: base tokens, end of text and facts, rounded up to 64s.

    GPT-2's 50,256 base tokens + 1 + 45 facts = 50,302, rounded up to 50,304.
    """
    ids = (base_ranks or ranks) + 1 + len(MUL_FACTS)
    return -(-ids // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE


def _network(sections: Sections, ranks: int) -> str:
    """Return the sentence about the network; `ranks` is the number of GPT-2's base tokens."""
    model = sections["model"]
    vocabulary = vocabulary_size(sections["tokenize"]["base_ranks"], ranks)
    return (
        f"GPT-2 of {rounded(parameter_count(model, vocabulary))} parameters: {model['layers']}"
        f" layers, {model['heads']} heads, width {model['width']}, context {model['context']:,}"
        f" tokens, vocabulary {vocabulary:,}"
    )


def _text(params: Mapping[str, Any], texts: Mapping[str, dict[str, Any]]) -> str:
    """Return the sentence about the documents, which all conditions share."""
    train, val = (next(iter(texts.values()))[split] for split in ("train", "val"))
    corpus, source = params["corpus"], params["fetch"]["passages"]["source"]
    named = [str(value) for key, value in source.items() if key not in _NAMED_IN_SOURCE and value]
    return (
        f"passages of {' '.join(named)}, and {100 * corpus['drill_fraction']:.3g} % multiplication"
        f" drills: {train['documents']:,} training documents, {rounded(train['original_bytes'])}B;"
        f" {val['documents']:,} held out, at most"
        f" {params['pretrain']['validation_documents']:,} of them validated on"
    )


def _tokens(sections: Sections, texts: dict[str, Any]) -> str:
    """Return the sentence about the tokens of training, and how often the text is repeated."""
    pretrain, context = sections["pretrain"], sections["model"]["context"]
    per_step = pretrain["batch_rows"] * context
    trained, there = pretrain["max_steps"] * per_step, texts["train"]["tokens"]
    return (
        f"{pretrain['max_steps']:,} steps of {pretrain['batch_rows']:,} × {context:,} ="
        f" {per_step:,} tokens: {trained:,}, {trained / there:.3g} times the {there:,} of the"
        " training text"
    )


def _optimizer(pretrain: Mapping[str, Any]) -> str:
    """Return the sentence about the optimizer and its schedule."""
    rate, least = pretrain["learning_rate"], pretrain["min_learning_rate"]
    matrices = ""
    if pretrain["optimizer"] == "muon":
        of_muon = pretrain["muon_learning_rate"] or rate
        matrices = f"Muon ({of_muon:g}) for the matrices inside blocks, for the others "
    decay = f", the last {pretrain['decay_steps']:,}" if pretrain["schedule"] == "wsd" else ""
    return (
        f"{matrices}AdamW, learning rate {rate:g} to {least:g} ({pretrain['schedule']}{decay};"
        f" {pretrain['warmup_steps']:,} steps of warm-up), weight decay"
        f" {pretrain['weight_decay']:g}, betas {pretrain['beta1']:g} and {pretrain['beta2']:g},"
        f" gradients clipped at {pretrain['gradient_clip']:g}"
    )


def _fine_tuning(sft: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    return (
        f"{params['problems']['conversations']:,} conversations, {sft['max_steps']:,} steps of"
        f" {sft['batch_rows']:,}; AdamW, learning rate {sft['learning_rate']:g}"
    )


def _arithmetic(pretrain: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    kernels = params["numerics"]["kernels"]
    return f"{pretrain['dtype']} on {pretrain['device']}, {kernels} kernels"


def _texts(path: Path) -> dict[str, Any]:
    """Return a condition's tokenize.json; raise PipelineError if it lacks a figure."""
    found = read_json(path, dict)
    try:
        for split in ("train", "val"):
            for key in ("documents", "original_bytes", "tokens"):
                # Raises if the key is missing or its value is not a number.
                found[split][key] + 0
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{path}: not the tokenize stage's ({error!r}); run dvc repro tokenize"
        ) from None
    return found


def _by_condition(words: Mapping[str, str]) -> str:
    """Return the words once if all conditions share them, else each with its conditions' names."""
    same: dict[str, list[str]] = {}
    for name, said in words.items():
        same.setdefault(said, []).append(name)
    if len(same) == 1:
        return next(iter(same))
    return "; ".join(f"{_listed(names)}: {said}" for said, names in same.items())


def _listed(names: list[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def rounded(number: int) -> str:
    """Return a number in three digits with a prefix: 1,234,567 gives "1.23 M"."""
    if number < 1000:
        return f"{number} "
    # Rounded before the prefix is chosen: 999,900 is "1 M", not "1e+03 k".
    value, digits = float(f"{number:.3g}"), len(f"{float(f'{number:.3g}'):.0f}")
    power = min((digits - 1) // 3, len(_PREFIXES) - 1)
    return f"{value / 1000**power:.4g} {_PREFIXES[power]}"
