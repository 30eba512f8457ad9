"""All of params.yaml: each section's own rules, the rules between sections, and each condition."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from common.errors import PipelineError
from common.sections import Section, param, validate, validate_overridden
from model.params.conditions import Name, Overrides
from model.params.corpus import CorpusParams
from model.params.evaluate import EvaluateParams
from model.params.export import ExportParams
from model.params.fetch import FetchParams
from model.params.generate import GenerateParams
from model.params.items import ItemsParams
from model.params.network import NetworkParams
from model.params.numerics import NumericsParams
from model.params.passage_names import source_names
from model.params.pretrain import PretrainParams
from model.params.probes import ProbesParams
from model.params.problems import GENERATED, ProblemsParams
from model.params.samples import SamplesParams
from model.params.sft import SftParams
from model.params.source_names import DRILL_SOURCE
from model.params.tasks import CONTINUATION, Tasks
from model.params.tokenize import TokenizeParams

# numpy takes no greater seed.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Params(Section):
    """All of params.yaml."""

    conditions: dict[Name, Overrides] = param(
        "The arms of the experiment, by name; all are compared with the first one. A condition "
        "names four sections, and has values of its own in place of theirs.",
        min_length=1,
    )
    seeds: list[Seed] = param(
        "A run of each condition for each seed. It draws the initial weights and the order of "
        "documents.",
        rule="no seed twice",
        min_length=1,
    )
    numerics: NumericsParams
    fetch: FetchParams
    tasks: Tasks = param(
        "Multiple-choice tasks that every checkpoint answers, by name. `continuation` is made of "
        "held-out documents. The items of any other task are those of `fetch.tasks.NAME`.",
        rule="`continuation`, or names in `fetch.tasks`",
    )
    corpus: CorpusParams
    items: ItemsParams
    tokenize: TokenizeParams
    model: NetworkParams
    pretrain: PretrainParams
    export: ExportParams
    evaluate: EvaluateParams
    samples: SamplesParams
    problems: ProblemsParams
    sft: SftParams
    generate: GenerateParams
    probes: ProbesParams

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds} names one of them twice")
        unknown = sorted(set(self.problems.mixture) - {*self.fetch.conversations, GENERATED})
        if unknown:
            raise ValueError(
                f"problems.mixture names {unknown}, which fetch.conversations does not have"
            )
        if GENERATED in self.fetch.conversations:
            raise ValueError(
                f"fetch.conversations.{GENERATED} has the name of this repository's own problems; "
                "choose another"
            )
        # Then every conversation is learned equally often.
        drawn, taken = self.problems.conversations, self.sft.max_steps * self.sft.batch_rows
        if taken % drawn:
            raise ValueError(
                f"sft.max_steps × batch_rows ({taken}) must be a multiple of "
                f"problems.conversations ({drawn})"
            )
        self._require_tasks()
        count, total = self.problems.gsm8k_test, self.fetch.gsm8k.count
        if count is not None and count > total:
            raise ValueError(f"problems.gsm8k_test ({count}) exceeds fetch.gsm8k.count ({total})")
        if self.tokenize.base_ranks > self.fetch.ranks.count:
            raise ValueError(
                f"tokenize.base_ranks ({self.tokenize.base_ranks}) exceeds fetch.ranks.count "
                f"({self.fetch.ranks.count})"
            )
        self._require_known_sources()
        self._require_native()
        # A row of training has one token more than the context.
        context, target_tokens = self.model.context, self.corpus.target_tokens
        if target_tokens is not None and target_tokens <= context:
            raise ValueError(
                f"corpus.target_tokens ({target_tokens}) must be above model.context ({context})"
            )
        # The prompt needs at least one token of the context.
        for name, new_tokens in (
            ("probes", self.probes.new_tokens),
            ("generate", self.generate.new_tokens),
            ("samples", self.samples.new_tokens),
        ):
            if new_tokens >= context:
                raise ValueError(
                    f"{name}.new_tokens ({new_tokens}) must be below model.context ({context})"
                )
        return self

    def _require_known_sources(self) -> None:
        """Raise ValueError if pretrain.mixture names a source that the corpus cannot have."""
        names = source_names(self.fetch.passages.source)
        if names is None:  # a tree's folders name them; pretrain checks
            return
        if self.corpus.drill_fraction:
            names.add(DRILL_SOURCE)
        unknown = sorted(set(self.pretrain.mixture) - names)
        if unknown:
            raise ValueError(
                f"pretrain.mixture names {', '.join(unknown)}; the sources of the corpus are "
                f"{', '.join(sorted(names))}"
            )

    def _require_tasks(self) -> None:
        """Raise ValueError unless each task has its items, and each file of scores one task."""
        sources = self.fetch.tasks
        if CONTINUATION in sources:
            raise ValueError(
                f"fetch.tasks.{CONTINUATION} has the name of the task of held-out documents; "
                "choose another"
            )
        for name, task in self.tasks.items():
            if name == CONTINUATION:
                continue
            if name not in sources:
                raise ValueError(
                    f"tasks.{name}: fetch.tasks has no {name}, which would say where its items "
                    f"are; it has {', '.join(sorted(sources)) or 'none'}"
                )
            if task.asked != "all" and task.asked > sources[name].count:
                raise ValueError(
                    f"tasks.{name}.asked ({task.asked}) exceeds fetch.tasks.{name}.count "
                    f"({sources[name].count})"
                )
        # A second wording's scores are in a file NAME_WORDING.
        names = [
            f"{name}_{wording}"
            for name, task in self.tasks.items()
            for wording in task.wordings[1:]
        ]
        taken = sorted(set(names) & set(self.tasks))
        if taken:
            raise ValueError(
                f"tasks.{taken[0]} has the name of another task's second wording; choose another"
            )

    def _require_native(self) -> None:
        """Raise ValueError for a key that needs native kernels, if they are portable."""
        if self.numerics.kernels == "native":
            return
        for name in ("pretrain", "evaluate", "samples", "sft", "generate", "probes"):
            section = getattr(self, name)
            for key, needed in (("device", "cpu"), ("dtype", "float32"), ("compile", False)):
                found = getattr(section, key, needed)
                if found != needed:
                    raise ValueError(
                        f"{name}.{key} ({found}) needs numerics.kernels: native; portable kernels "
                        "compute in float32 on a CPU"
                    )


def read_conditions(document: Any, path: Path) -> dict[str, Params]:
    """Return what each condition reads in params.yaml, by the condition's name.

    `document` is the file's content. Raises PipelineError with one line for each fault of
    `document`, or else of the first condition that has a fault. A condition's lines name its own
    keys.
    """
    params = validate(document, Params, path)
    found = {name: _of_condition(document, params, name, path) for name in params.conditions}
    [(first, of_first), *others] = found.items()
    for name, each in others:
        if tokens_a_step(each) != tokens_a_step(of_first):
            raise PipelineError(
                f"{path}: conditions.{name}: pretrain.batch_rows × model.context is "
                f"{tokens_a_step(each)}, and {tokens_a_step(of_first)} in {first}; conditions are "
                "compared at the same steps, so a step takes as many tokens in all"
            )
    return found


def _of_condition(document: Any, params: Params, name: str, path: Path) -> Params:
    """Return `document` with the condition's own values in place, validated as a whole.

    conditions.wide.model {width: 192} and model {layers: 2, width: 128, …} make
    model {layers: 2, width: 192, …}.
    """
    whole = dict(document)
    for section in Overrides.model_fields:
        values, key = document["conditions"][name][section], f"conditions.{name}.{section}"
        kind = type(getattr(params, section))
        effective = validate_overridden(document[section], values, kind, path, key)
        whole[section] = effective.model_dump()
    return validate(whole, Params, path, f"conditions.{name}")


def tokens_a_step(params: Params) -> int:
    """Return how many tokens an optimizer step trains on, in all processes."""
    return params.pretrain.batch_rows * params.model.context
