"""Write the published model card: the export's own, with results, training, data and provenance.

The same commit and arguments give the same bytes. huggingface_hub writes the head, the hub's
metadata, so that the hub's leaderboards and filters can read it.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from model.params.all_sections import Params, read_conditions, tokens_a_step
from model.params.passage_names import benchmark_of
from model.params.source_names import DRILL_SOURCE
from model.report.runs import sources
from model.results.markdown_table import Table, words
from model.tasks.labels import (
    COMPARED_RULES,
    PRODUCT_GROUPS,
    RULES,
    label_of,
    problem_set_words,
    task_figures,
)
from model.tasks.listing import listed
from pipeline.declared.dvc_yaml import PARAMS, below, read_mapping
from pipeline.declared.library_versions import FILE as LIBRARIES
from pipeline.declared.lockfile import LOCK
from tools.publish.checks import Commit, Model

# The hub's names of the data sets that this project trains or evaluates on, with configurations.
_HUB = {
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge"),
    "arc_easy": ("allenai/ai2_arc", "ARC-Easy"),
    "boolq": ("google/boolq", None),
    "commonsense_qa": ("tau/commonsense_qa", None),
    "copa": ("aps/super_glue", "copa"),
    "coqa": ("stanfordnlp/coqa", None),
    "drop": ("ucinlp/drop", None),
    "gsm8k": ("openai/gsm8k", "main"),
    "hellaswag": ("Rowan/hellaswag", None),
    "lambada": ("cimec/lambada", None),
    "openbookqa": ("allenai/openbookqa", "main"),
    "piqa": ("ybisk/piqa", None),
    "sciq": ("allenai/sciq", None),
    "social_iqa": ("allenai/social_i_qa", None),
    "squad": ("rajpurkar/squad", None),
    "winogrande": ("allenai/winogrande", "winogrande_xl"),
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# No free text: tools.verify confirms a card, and it must not confirm a publisher's own claims.
_WORD = re.compile(r"[A-Za-z0-9.+-]{1,40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")


class Choices(NamedTuple):
    """The publisher's statements: the repository, the language, the license."""

    repository: str
    language: str
    license: str | None

    @property
    def fault(self) -> str | None:
        """Return which value the hub would refuse, with the form that it needs; None if none."""
        if not _REPOSITORY.fullmatch(self.repository):
            return f"repository {self.repository!r} is not OWNER/NAME"
        for key, value in (("language", self.language), ("license", self.license)):
            if value is not None and not _WORD.fullmatch(value):
                return f"{key} {value!r} is not 1 to 40 of the characters A-Z a-z 0-9 . + -"
        return None


class Result(NamedTuple):
    """One figure of the card; `low` and `high` are its 95 % interval, if it is a rate."""

    data: str
    data_words: str
    figure: str
    metric: str
    value: float
    total: int | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None

    @property
    def row(self) -> list[str]:
        return [
            self.data_words,
            self.figure,
            "" if self.total is None else f"{self.total:,}",
            f"{self.value:.4f}",
            "" if self.low is None else f"{self.low:.4f} to {self.high:.4f}",
            "" if self.chance is None else f"{self.chance:.4f}",
        ]

    @property
    def metadata(self) -> EvalResult:
        hub, config = _HUB.get(self.data, (self.data, None))
        interval = "" if self.low is None else f" (95 %: {self.low:.4f} to {self.high:.4f})"
        return EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=hub,
            dataset_name=self.data_words,
            dataset_config=config,
            metric_type=self.metric,
            metric_name=f"{self.figure}{interval}",
            metric_value=self.value,
        )


def published_card(
    commit: Commit, model: Model, own: str, config: dict[str, Any], choices: Choices
) -> str:
    """Return the card. `own` is the export's README.md, `config` its config.json."""
    params = read_conditions(read_mapping(commit.tree, PARAMS), Path(PARAMS))[model.condition]
    figures = {path: commit.json(path) for path in model.figures}
    results = list(_results(model, params, figures))
    head = ModelCard(own)
    data = head.data.to_dict()
    metadata = ModelCardData(
        **{
            **data,
            "datasets": _datasets(params, model),
            "eval_results": [result.metadata for result in results],
            "language": choices.language,
            "license": choices.license,
            "model_name": choices.repository.partition("/")[2],
            "tags": [*data.get("tags", []), "gpt2", "ablation"],
        }
    )
    parts = [
        head.text.strip(),
        _results_text(results),
        _training(model, params, figures, config),
        _data(commit, model, params, figures),
        _provenance(commit, model, choices),
        _limits(choices),
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _results(model: Model, params: Params, figures: dict[str, Any]) -> Iterator[Result]:
    run = f"metrics/{model.condition}/seed_{model.seed}"
    if model.is_fine_tuned:
        yield from _answers(figures[f"{run}/gsm8k.json"])
        yield from _products(figures[f"{run}/probes/sft.json"])
        return
    last = figures[f"{run}/pretrain.json"]
    if last["step"] == model.step:
        for key, where in (("val", "held-out documents"), ("val_drill", "held-out drills")):
            value = last.get(f"{key}_bits_per_byte")
            if value is not None:
                data = where.replace(" ", "-")
                yield Result(data, where, "bits per byte", "bits_per_byte", value)
    scores = figures[f"{run}/step_{model.step}/evaluation.json"]
    for task in listed(params.tasks):
        [figure] = [each for each in task_figures([task]) if each.is_accuracy]
        found, name_of = scores[task.name], label_of(task).words
        for metric in ("acc", "acc_norm"):
            name = figure.label.removeprefix(f"{name_of} ").replace("acc_norm", metric)
            rate = _rate(task.items, name_of, name, metric, found[metric])
            yield rate._replace(chance=found["chance"])


def _answers(found: dict[str, Any]) -> Iterator[Result]:
    for problems, scores in sorted(found.items(), reverse=True):
        named = problem_set_words(problems)
        for rule in COMPARED_RULES:
            yield _rate(problems, named, RULES[rule], "exact_match", scores[rule])


def _products(found: dict[str, Any]) -> Iterator[Result]:
    for prompts, groups in sorted(found.items()):
        for group, kind in PRODUCT_GROUPS.items():
            for answer, rate in sorted(groups.get(group, {}).items()):
                name = f"{kind}, {prompts} prompt, answer as {answer.replace('_', ' ')}"
                yield _rate("products", "products of 1 to 9", name, "exact_match", rate)


def _rate(data: str, data_words: str, figure: str, metric: str, rate: dict[str, Any]) -> Result:
    low, high = rate["interval_95"]
    return Result(data, data_words, figure, metric, rate["rate"], rate["total"], low, high)


def _datasets(params: Params, model: Model) -> list[str]:
    """Return the hub's names of the training data, as far as params.yaml names them."""
    passages = [params.fetch.passages.source]
    chats = [each.source for each in params.fetch.conversations.values()]
    found = []
    for source in [*passages, *(chats if model.is_fine_tuned else [])]:
        name = getattr(source, "dataset", getattr(source, "repository", ""))
        found += [name] if _HUB_NAME.fullmatch(name) else []
        for file in getattr(source, "files", []):
            benchmark = benchmark_of(PurePosixPath(file.path))
            found += [_HUB[benchmark][0]] if benchmark else []
    return sorted(set(found))


def _table(
    title: str, unit: str, columns: list[str], rows: Iterable[Iterable[str]], labels: int
) -> str:
    cells = [[words(text) for text in row] for row in rows]
    return Table(title, title, unit, columns, cells, labels).markdown().strip()


def _results_text(results: list[Result]) -> str:
    has_chance = any(result.chance is not None for result in results)
    columns = ["Data", "Figure", "n", "Value", "95 %", *["Chance"] * has_chance]
    rows = [result.row[: len(columns)] for result in results]
    return "\n\n".join(
        [
            "## Results",
            _table("Scores", "rates with 95 % intervals", columns, rows, 2),
            "Intervals are of other items of the same kind; items of one source count as a "
            "cluster. They do not cover another seed.",
        ]
    )


def _training(model: Model, params: Params, figures: dict[str, Any], config: dict[str, Any]) -> str:
    network = (
        f"GPT-2: {config['n_layer']} layers, {config['n_head']} heads, width {config['n_embd']}, "
        f"context {config['n_positions']}, vocabulary {config['vocab_size']:,}"
    )
    run = f"metrics/{model.condition}/seed_{model.seed}"
    parity = figures[model.parity]
    each = params.pretrain
    rows = [
        ["network", network],
        ["tokens", f"{model.step * tokens_a_step(params):,}"],
        ["steps", f"{model.step:,} of {each.max_steps:,}, {tokens_a_step(params):,} tokens each"],
        ["optimizer", _optimizer(each)],
        ["seed", str(model.seed)],
        ["numerics", f"{params.numerics.kernels} kernels, {each.dtype} on {each.device}"],
        ["loss on the canary", f"{parity['checkpoint_loss']:.4f} nats per token"],
    ]
    last = None if model.is_fine_tuned else figures[f"{run}/pretrain.json"]
    if last and last["step"] == model.step:
        loss = (
            f"{last['val_loss']:.4f} nats per token, {last['val_bits_per_byte']:.4f} bits per byte"
        )
        rows.append(["validation loss", loss])
    if model.is_fine_tuned:
        sft, tuned = params.sft, figures[f"{run}/sft.json"]
        rows += [
            ["fine-tuning steps", f"{sft.max_steps:,} of {sft.batch_rows} conversations each"],
            ["fine-tuning optimizer", _optimizer(sft)],
            [
                "fine-tuning data",
                f"{tuned['conversations']:,} conversations, {tuned['learned_tokens']:,} tokens "
                "learned",
            ],
            ["last fine-tuning loss", f"{tuned['train_loss']:.4f} nats per token"],
        ]
    note = "The canary is a few validation documents on which training and export are compared."
    return "\n\n".join(
        ["## Training", _table("Run", "as params.yaml has it", ["What", "Value"], rows, 2), note]
    )


def _optimizer(section: Any) -> str:
    named = getattr(section, "optimizer", "adamw")
    decay = getattr(section, "min_learning_rate", None)
    last = "" if decay is None else f" to {decay:g} ({section.schedule})"
    muon = f", Muon learning rate {section.muon_learning_rate}" if named == "muon" else ""
    return (
        f"{named}, learning rate {section.learning_rate:g}{last}, {section.warmup_steps} steps of "
        f"warm-up, β {section.beta1:g} and {section.beta2:g}, weight decay "
        f"{section.weight_decay:g}, gradients clipped at {section.gradient_clip:g}{muon}"
    )


def _data(commit: Commit, model: Model, params: Params, figures: dict[str, Any]) -> str:
    texts = figures[f"metrics/{model.condition}/tokenize.json"]["train"]
    corpus = params.corpus
    read = model.step * tokens_a_step(params)
    rows = sources(read_mapping(commit.tree, PARAMS)["fetch"])
    lines = [
        "## Data",
        f"The training text has {texts['documents']:,} documents, {texts['original_bytes']:,} "
        f"bytes, {texts['tokens']:,} tokens. The SHA-256 of the documents, in order, is "
        f"`{texts['documents_sha256']}`.",
        f"Pretraining to step {model.step:,} read {read:,} tokens, "
        f"{100 * read / texts['tokens']:.1f} % as many as the text has.",
        f"{100 * corpus.drill_fraction:g} % of the text are {DRILL_SOURCE}: generated lines of "
        "multiplication." if corpus.drill_fraction else "",
        "The corpus leaves out duplicates, and documents that share "
        f"{corpus.contamination_words} words in a row with an item of a task or with a problem of "
        "GSM8K. Shorter items are not matched.",
        _table(
            "Fetched", "for training and for evaluation", ["Input", "From", "Pinned by"], rows, 3
        ),
    ]  # fmt: skip
    return "\n\n".join(line for line in lines if line)


def _provenance(commit: Commit, model: Model, choices: Choices) -> str:
    lock = commit.graph.lock
    recorded = lock[model.instance]
    made = {out: name for name, each in lock.items() for out in each.outs}
    inputs = sorted((dep, md5) for dep, md5 in recorded.deps.items() if not _is_code(dep))
    makers = [", ".join(sorted(made[out] for out in made if below(dep, out))) for dep, _ in inputs]
    rows = [[*pair, maker] for pair, maker in zip(inputs, makers, strict=True)]
    versions = read_mapping(commit.tree, LIBRARIES)
    stage = commit.graph.instances[model.instance].stage
    libraries = ", ".join(f"{name} {version}" for name, version in versions[stage].items())
    digest = hashlib.sha256(commit.tree.read(LOCK)).hexdigest()
    weights = commit.json(model.parity)["weights_sha256"]
    return "\n\n".join(
        [
            "## Provenance",
            f"The files are `{model.output}`, written by `{recorded.command}` at commit "
            f"`{commit.name}`. Publishing replaced this card and SHA256SUMS; provenance.json holds "
            "both as the stage wrote them.",
            _table(
                "Identities",
                "of the commit and of its outputs",
                ["What", "Value"],
                [
                    ["commit", commit.name],
                    [f"SHA-256 of {LOCK}", digest],
                    ["DVC's hash of the directory", model.md5],
                    ["SHA-256 of the checkpoint's weights", weights],
                    ["libraries", libraries],
                ],
                2,
            ),
            _table(
                "Inputs of the last stage",
                "provenance.json has those of all stages before it",
                ["Input", "MD5", "Written by"],
                rows,
                3,
            ),
            "In a clone of the repository at this commit, `python -m tools.verify "
            f"{choices.repository}` compares every byte with {LOCK}.",
        ]
    )


def _is_code(path: str) -> bool:
    return path.partition("/")[0] in ("common", "model", "stages")


def _limits(choices: Choices) -> str:
    stated = (
        f"The person who published the weights states the license {choices.license}."
        if choices.license
        else "No license is stated for the weights. The code's license does not cover them, and "
        "the texts have licenses of their own."
    )
    lines = [
        "It was trained to compare the conditions of an ablation. Do not use it for anything else: "
        "nothing was done against false, offensive or private text.",
        "One seed is one network. Another seed, or another order of sums on another kind of "
        "processor, gives other figures.",
        "Held-out documents may share sentences with training ones.",
        stated,
    ]
    return "\n\n".join(["## Limits", "\n".join(f"- {line}" for line in lines)])
