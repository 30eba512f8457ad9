"""All of params.yaml: every section's own rules, and those between sections."""

from typing import Annotated

from pydantic import Field, model_validator

from model.params.corpus import CorpusParams
from model.params.evaluate import EvaluateParams
from model.params.export import ExportParams
from model.params.fetch import FetchParams
from model.params.generate import GenerateParams
from model.params.items import ItemsParams
from model.params.network import NetworkParams
from model.params.pretrain import PretrainParams
from model.params.probes import ProbesParams
from model.params.problems import GENERATED, ProblemsParams
from model.params.sft import SftParams
from model.params.tokenize import TokenizeParams
from model.section import Section

# Conditions name directories and DVC stages.
Condition = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]

# numpy takes no greater one.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# uint16 holds the ids of shards: the ranks, end of text, 45 facts, all padded to a multiple of 64.
_MOST_RANKS = 2**16 - 46


class Params(Section):
    conditions: list[Condition] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
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
    def _sections_agree(self):
        for name in ("conditions", "seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} {values} names one of them twice")
        unknown = sorted(set(self.problems.mixture) - {*self.fetch.conversations, GENERATED})
        if unknown:
            raise ValueError(f"problems.mixture names {unknown}, which fetch.conversations does not have")
        if GENERATED in self.fetch.conversations:
            raise ValueError(f"fetch.conversations.{GENERATED} has the name of this repository's own problems; choose another")
        drawn, taken = self.problems.conversations, self.sft.max_steps * self.sft.batch_rows
        if taken % drawn:
            raise ValueError(f"sft.max_steps × batch_rows ({taken}) must be a multiple of problems.conversations ({drawn})")
        if self.tokenize.base_ranks > self.fetch.ranks.count:
            raise ValueError(
                f"tokenize.base_ranks ({self.tokenize.base_ranks}) exceeds fetch.ranks.count ({self.fetch.ranks.count})"
            )
        if self.tokenize.base_ranks > _MOST_RANKS:
            raise ValueError(f"tokenize.base_ranks ({self.tokenize.base_ranks}) must be at most {_MOST_RANKS}: ids have 16 bits")
        for name, seed in (("weight_seed", self.pretrain.weight_seed), ("data_seed", self.pretrain.data_seed)):
            if seed is not None and seed >= 2**32:
                raise ValueError(f"pretrain.{name} ({seed}) must be below 2³²")
        context, target_tokens = self.model.context, self.corpus.target_tokens
        if target_tokens is not None and target_tokens <= context:
            raise ValueError(f"corpus.target_tokens ({target_tokens}) must be above model.context ({context})")
        for name, new_tokens in (("probes", self.probes.new_tokens), ("generate", self.generate.new_tokens)):
            if new_tokens >= context:
                raise ValueError(f"{name}.new_tokens ({new_tokens}) must be below model.context ({context})")
        return self
