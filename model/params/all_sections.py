"""All of params.yaml: every section's own rules, and those between sections."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from common.sections import Section
from model.params.corpus import CorpusParams
from model.params.evaluate import EvaluateParams
from model.params.export import ExportParams
from model.params.fetch import FetchParams
from model.params.generate import GenerateParams
from model.params.items import ItemsParams
from model.params.network import NetworkParams
from model.params.numerics import NumericsParams
from model.params.pretrain import PretrainParams
from model.params.probes import ProbesParams
from model.params.problems import GENERATED, ProblemsParams
from model.params.sft import SftParams
from model.params.tokenize import TokenizeParams

# Files of plots/figures that show all conditions. A condition of the same name would overwrite
# NAME.png.
RESERVED_NAMES = ("combined", "evidence", "training")
# metrics/comparison.json has keys CONDITION, and CONDITION with each of these.
RESERVED_ENDINGS = ("_difference", "_holm_p")


def _is_free(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(
            f"{name} is taken: plots/figures/{name}.png is a picture of all conditions; choose "
            "another name"
        )
    for ending in RESERVED_ENDINGS:
        if name.endswith(ending):
            raise ValueError(
                f"{name} ends with {ending}, as keys of metrics/comparison.json do; choose "
                "another name"
            )
    return name


# Conditions name directories, pictures and DVC stages.
Condition = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64), AfterValidator(_is_free)
]

# numpy takes no greater one.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# uint16 holds the ids of shards: the ranks, end of text, 45 facts, all padded to a multiple of 64.
_MOST_RANKS = 2**16 - 46


class Params(Section):
    conditions: list[Condition] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    numerics: NumericsParams
    fetch: FetchParams
    corpus: CorpusParams
    items: ItemsParams
    tokenize: TokenizeParams
    model: NetworkParams
    pretrain: PretrainParams
    export: ExportParams
    evaluate: EvaluateParams
    problems: ProblemsParams
    sft: SftParams
    generate: GenerateParams
    probes: ProbesParams

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        for name in ("conditions", "seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} {values} names one of them twice")
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
        drawn, taken = self.problems.conversations, self.sft.max_steps * self.sft.batch_rows
        if taken % drawn:
            raise ValueError(
                f"sft.max_steps × batch_rows ({taken}) must be a multiple of "
                f"problems.conversations ({drawn})"
            )
        asked = (
            (
                "items.hellaswag_count",
                self.items.hellaswag_count,
                "fetch.hellaswag.count",
                self.fetch.hellaswag.count,
            ),
            (
                "problems.gsm8k_test",
                self.problems.gsm8k_test,
                "fetch.gsm8k.count",
                self.fetch.gsm8k.count,
            ),
        )
        for name, count, of, total in asked:
            if count is not None and count > total:
                raise ValueError(f"{name} ({count}) exceeds {of} ({total})")
        if self.tokenize.base_ranks > self.fetch.ranks.count:
            raise ValueError(
                f"tokenize.base_ranks ({self.tokenize.base_ranks}) exceeds fetch.ranks.count "
                f"({self.fetch.ranks.count})"
            )
        if self.tokenize.base_ranks > _MOST_RANKS:
            raise ValueError(
                f"tokenize.base_ranks ({self.tokenize.base_ranks}) must be at most {_MOST_RANKS}: "
                "ids have 16 bits"
            )
        for name, seed in (
            ("weight_seed", self.pretrain.weight_seed),
            ("data_seed", self.pretrain.data_seed),
        ):
            if seed is not None and seed >= 2**32:
                raise ValueError(f"pretrain.{name} ({seed}) must be below 2³²")
        self._require_native()
        context, target_tokens = self.model.context, self.corpus.target_tokens
        if target_tokens is not None and target_tokens <= context:
            raise ValueError(
                f"corpus.target_tokens ({target_tokens}) must be above model.context ({context})"
            )
        for name, new_tokens in (
            ("probes", self.probes.new_tokens),
            ("generate", self.generate.new_tokens),
        ):
            if new_tokens >= context:
                raise ValueError(
                    f"{name}.new_tokens ({new_tokens}) must be below model.context ({context})"
                )
        return self

    def _require_native(self) -> None:
        """Raise ValueError for a key that needs native kernels, if they are portable."""
        if self.numerics.kernels == "native":
            return
        for name in ("pretrain", "evaluate", "sft", "generate", "probes"):
            section = getattr(self, name)
            for key, needed in (("device", "cpu"), ("dtype", "float32"), ("compile", False)):
                found = getattr(section, key, needed)
                if found != needed:
                    raise ValueError(
                        f"{name}.{key} ({found}) needs numerics.kernels: native; portable kernels "
                        "compute in float32 on a CPU"
                    )
