"""The exporter gate: right exports pass, and every fault in mapping, config, weights or identity is
stopped and named.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from card_code import run_card
from safetensors.torch import load_file, save_file
from small_objects import checkpoint_config, random_gpt, save_checkpoint
from transformers import AutoModelForCausalLM

from common.errors import PipelineError
from common.files import verified_directory
from model.export import weight_map
from model.export.gate import Source, keep_export
from model.export.hf_tokenizer import to_hugging_face
from model.export.model_card import model_card
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.canary import mean_loss
from model.network.checkpoints import CheckpointConfig, load_model, read_checkpoint
from model.tokens.bpe import Tokenizer

END_OF_TEXT = 512
TOLERANCE = 1e-4


@pytest.fixture
def tokens(network):
    return torch.randint(
        0, network.vocab_size, (2, network.context + 1), generator=torch.Generator().manual_seed(3)
    )


@dataclass
class Export:
    """One export on its way from checkpoint to gate, with a place for a fault at every station."""

    checkpoint: Path
    directory: Path
    tokens: torch.Tensor
    tokenizer: Tokenizer
    table: list = field(default_factory=lambda: export_table(2))
    sources: dict[str, torch.Tensor] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, torch.Tensor] = field(default_factory=dict)
    stored: dict[str, torch.Tensor | None] = field(default_factory=dict)
    rewritten: dict[str, dict[str, Any]] = field(default_factory=dict)
    read_from: Path | None = None
    loss: float | None = None

    def run(self, tolerance: float = TOLERANCE):
        config, raw = read_checkpoint(self.checkpoint)
        model = load_model(config, raw)
        with torch.no_grad():
            loss = mean_loss(model(self.tokens[:, :-1]), self.tokens[:, 1:])
        source = Source(
            model, self.tokenizer, self.tokens, ["A text of 6 × 9 words."], self.loss or loss
        )
        return keep_export(
            self.directory,
            lambda output: self.write(output, config, raw),
            source,
            lambda _: "card",
            tolerance,
        )

    def write(self, output: Path, config: CheckpointConfig, raw: dict[str, torch.Tensor]) -> None:
        hf_config = hugging_face_config(config.network, END_OF_TEXT)
        for key, value in self.config.items():
            setattr(hf_config, key, value)
        exported = {
            **(read_checkpoint(self.read_from)[1] if self.read_from else raw),
            **self.sources,
        }
        mapped = {
            **map_tensors({k: v for k, v in exported.items() if v is not None}, self.table),
            **self.targets,
        }
        build_hugging_face_model(hf_config, mapped).save_pretrained(output)
        to_hugging_face(self.tokenizer, config.network.context).save_pretrained(output)
        if self.stored:
            path = output / "model.safetensors"
            kept = {
                name: tensor
                for name, tensor in {**load_file(path), **self.stored}.items()
                if tensor is not None
            }
            save_file(kept, path, metadata={"format": "pt"})
        for name, changes in self.rewritten.items():
            path = output / name
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def export(checkpoint, tmp_path, tokens, tokenizer) -> Export:
    return Export(checkpoint, tmp_path / "export", tokens, tokenizer)


def test_a_right_export_passes(export):
    parity = export.run()
    assert parity.max_abs_logit_difference < TOLERANCE / 10
    assert parity.export_loss == pytest.approx(parity.checkpoint_loss, abs=1e-5)
    assert parity.tokens == 64
    names = [path.name for path in sorted(verified_directory(export.directory).iterdir())]
    assert names == [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_code_of_the_card_runs_as_it_stands(export, monkeypatch, capsys):
    config = read_checkpoint(export.checkpoint)[0]
    parity = export.run()
    card = model_card(config, "0" * 64, 1, True, [], parity)
    (export.directory / "README.md").write_text(card)
    text = run_card(export.directory, monkeypatch, capsys)
    assert text.startswith("<|endoftext|>Water is made of")
    assert len(text) > len("<|endoftext|>Water is made of\n")


def raw(export: Export) -> dict[str, torch.Tensor]:
    return read_checkpoint(export.checkpoint)[1]


def untransposed(part: str):
    def inject(export: Export):
        name = f"transformer.h.1.{part}.weight"
        export.table = [
            entry._replace(transposed=entry.transposed and entry.target != name)
            for entry in export.table
        ]

    return inject


def rolled(name: str, dimension: int = 0):
    def inject(export: Export):
        export.sources[name] = raw(export)[name].roll(1, dims=dimension)

    return inject


def prefixed(export: Export):
    export.sources = dict.fromkeys(raw(export)) | {
        f"_orig_mod.{name}": tensor for name, tensor in raw(export).items()
    }


def skipped_unknown_names(export: Export):
    """What the lost system did with a compiled checkpoint: no name matched, a randomly initialized
    model was saved.
    """
    config = read_checkpoint(export.checkpoint)[0]
    export.sources = {
        name: tensor
        for name, tensor in random_gpt(config.network, seed=9).state_dict().items()
        if name in raw(export)
    }


def swapped_query_and_key(export: Export):
    for kind in ("weight", "bias"):
        query, key, value = raw(export)[f"transformer.h.0.attn.c_attn.{kind}"].chunk(3)
        export.sources[f"transformer.h.0.attn.c_attn.{kind}"] = torch.cat([key, query, value])


def swapped_layers(export: Export):
    swap = {"0": "1", "1": "0"}
    export.table = [
        entry._replace(
            target=re.sub(r"\.h\.(\d)\.", lambda match: f".h.{swap[match[1]]}.", entry.target)
        )
        for entry in export.table
    ]


def swapped_norms(export: Export):
    for kind in ("weight", "bias"):
        names = [f"transformer.h.0.ln_{number}.{kind}" for number in (1, 2)]
        export.sources |= {names[0]: raw(export)[names[1]], names[1]: raw(export)[names[0]]}


def one_source_twice(export: Export):
    export.table = [
        *[entry for entry in export.table if "h.1.ln_1.bias" not in entry.target],
        weight_map.Entry("transformer.h.0.ln_1.bias", "transformer.h.1.ln_1.bias", False),
    ]


def one_target_twice(export: Export):
    export.table = [
        (
            entry._replace(target="transformer.h.0.ln_1.bias")
            if "h.1.ln_1.bias" in entry.source
            else entry
        )
        for entry in export.table
    ]


def missing_source(export: Export):
    export.sources["transformer.h.1.mlp.c_fc.bias"] = None


def untied_head(export: Export):
    export.config["tie_word_embeddings"] = False


def second_head(export: Export):
    export.stored["lm_head.weight"] = raw(export)["transformer.wte.weight"].flip(0).contiguous()


def zeroed_padding_rows(export: Export):
    embedding = raw(export)["transformer.wte.weight"].clone()
    embedding[END_OF_TEXT + 46 :] = 0
    export.sources["transformer.wte.weight"] = embedding


def shorter_position_table(export: Export):
    export.targets["transformer.wpe.weight"] = raw(export)["transformer.wpe.weight"][
        :-1
    ].contiguous()


def last_position_lost(export: Export):
    positions = raw(export)["transformer.wpe.weight"].clone()
    positions[-1] = positions[-2]
    export.sources["transformer.wpe.weight"] = positions


def half_precision(export: Export):
    export.stored = {
        name: tensor.to(torch.bfloat16)
        for name, tensor in map_tensors(raw(export), export.table).items()
    }


def rounded_through_half_precision(export: Export):
    export.sources = {
        name: tensor.to(torch.bfloat16).float() for name, tensor in raw(export).items()
    }


def one_tensor_gone_from_disk(export: Export):
    export.stored["transformer.h.0.ln_1.bias"] = None


def not_a_number(export: Export):
    export.sources["transformer.ln_f.bias"] = torch.full_like(
        raw(export)["transformer.ln_f.bias"], float("nan")
    )


def weights_of_another_step(export: Export):
    """The exporter reads another step's directory."""
    config = read_checkpoint(export.checkpoint)[0]
    export.read_from = export.directory.parent / "other_step"
    save_checkpoint(
        export.read_from,
        random_gpt(config.network, seed=4),
        checkpoint_config(config.network, step=3),
    )


def weights_saved_under_another_step(export: Export):
    """Training saved the weights of an earlier step under this one: the export equals its
    checkpoint, and both are stale.
    """
    export.loss = 5.0


def config(**changes):
    def inject(export: Export):
        export.config |= changes

    return inject


def rewritten(name: str, **changes):
    def inject(export: Export):
        export.rewritten[name] = changes

    return inject


def one_bias_in_half_precision(export: Export):
    name = "transformer.h.1.attn.c_attn.bias"
    export.sources[name] = raw(export)[name].half().float()


def one_position_a_little_off(export: Export):
    positions = raw(export)["transformer.wpe.weight"].clone()
    positions[-1] += 5e-5
    export.sources["transformer.wpe.weight"] = positions


FAULTS = [
    (
        untransposed("attn.c_attn"),
        "of another shape than GPT2LMHeadModel's: transformer.h.1.attn.c_attn.weight",
    ),
    (
        untransposed("attn.c_proj"),
        "transformer.h.1.attn.c_proj differs .*: its weight is stored untransposed",
    ),
    (
        untransposed("mlp.c_fc"),
        "of another shape than GPT2LMHeadModel's: transformer.h.1.mlp.c_fc.weight",
    ),
    (
        untransposed("mlp.c_proj"),
        "of another shape than GPT2LMHeadModel's: transformer.h.1.mlp.c_proj.weight",
    ),
    (
        rolled("transformer.h.0.attn.c_attn.weight"),
        "transformer.h.0.attn.c_attn differs .*: in query, key, value",
    ),
    (rolled("transformer.h.1.attn.c_proj.bias"), "transformer.h.1.attn.c_proj differs"),
    (rolled("transformer.h.0.mlp.c_fc.weight", 1), "transformer.h.0.mlp.c_fc differs"),
    (rolled("transformer.h.1.mlp.c_proj.weight"), "transformer.h.1.mlp.c_proj differs"),
    (rolled("transformer.ln_f.bias"), "transformer.ln_f differs"),
    (prefixed, r"unknown: _orig_mod\.transformer.* and 24 more; missing: transformer"),
    (skipped_unknown_names, "transformer.wte differs .*: 576 of 576 rows"),
    (swapped_query_and_key, "transformer.h.0.attn.c_attn differs .*: in query, key;"),
    (
        swapped_layers,
        "transformer.h.0.ln_1 differs .*: it computes the checkpoint's transformer.h.1.ln_1",
    ),
    (
        swapped_norms,
        "transformer.h.0.ln_1 differs .*: it computes the checkpoint's transformer.h.0.ln_2",
    ),
    (one_source_twice, "the table has one source twice: transformer.h.0.ln_1.bias"),
    (one_target_twice, "the table has one target twice: transformer.h.0.ln_1.bias"),
    (missing_source, r"unknown: none; missing: transformer\.h\.1\.mlp\.c_fc\.bias"),
    (untied_head, "config.json: tie_word_embeddings is false, expected true"),
    (second_head, "model.safetensors holds lm_head.weight, which the checkpoint does not store"),
    (
        zeroed_padding_rows,
        "transformer.wte differs .*: 18 of 576 rows, the first 558, the last 575",
    ),
    (shorter_position_table, "of another shape than GPT2LMHeadModel's: transformer.wpe.weight"),
    (last_position_lost, "transformer.wpe differs .*: 1 of 32 rows, the first 31, the last 31"),
    (half_precision, r"model.safetensors holds transformer.h.0.attn.c_attn.bias as torch.bfloat16"),
    (rounded_through_half_precision, "transformer.wte differs"),
    (one_tensor_gone_from_disk, "model.safetensors lacks transformer.h.0.ln_1.bias"),
    (not_a_number, "transformer.ln_f differs from the checkpoint's by nan"),
    (weights_of_another_step, "transformer.wte differs"),
    (
        weights_saved_under_another_step,
        "training measured 5.000000 at this step: the weights are not those of this step",
    ),
    (
        config(activation_function="gelu"),
        r'config.json: activation_function is "gelu", expected "gelu_new";',
    ),
    (config(layer_norm_epsilon=1e-6), "layer_norm_epsilon is 1e-06, expected 1e-05"),
    (config(n_head=4), "n_head is 4, expected 2"),
    (config(scale_attn_weights=False), "scale_attn_weights is false"),
    (config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx is true"),
    (config(eos_token_id=0), "eos_token_id is 0, expected 512"),
    (config(attn_pdrop=0.1), "attn_pdrop is 0.1"),
    (
        rewritten("config.json", dtype="float16"),
        'config.json: dtype is "float16", expected "float32"',
    ),
    (
        rewritten("config.json", reorder_and_upcast_attn=True),
        "config.json: reorder_and_upcast_attn is true",
    ),
    (
        rewritten("generation_config.json", eos_token_id=0),
        "generation_config.json: eos_token_id is 0",
    ),
    (
        rewritten("generation_config.json", pad_token_id=5),
        "generation_config.json: pad_token_id is 5",
    ),
    (
        one_bias_in_half_precision,
        (
            "transformer.h.1.attn.c_attn differs .* and its weights have to be equal: in query,"
            " key, value"
        ),
    ),
    (
        one_position_a_little_off,
        "transformer.wpe differs .* and its weights have to be equal: 1 of 32 rows, the first 31",
    ),
]


@pytest.mark.parametrize(
    ("inject", "message"), FAULTS, ids=[f"{n:02d}" for n in range(len(FAULTS))]
)
def test_every_fault_is_caught_and_named(export, inject, message):
    inject(export)
    with pytest.raises(PipelineError, match=message):
        export.run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "gelu"}, r"transformer\.h\.0\.mlp differs"),
        ({"layer_norm_epsilon": 1e-6}, r"transformer\.h\.0\.ln_1 differs"),
        ({"n_head": 4}, r"transformer\.h\.0\.attn differs"),
        ({"scale_attn_weights": False}, r"transformer\.h\.0\.attn differs"),
    ],
)
def test_what_a_wrong_config_computes_is_caught_without_reading_the_config(
    export, monkeypatch, changes, message
):
    monkeypatch.setattr("model.export.gate._verify_json", lambda *_: None)
    monkeypatch.setattr("model.export.gate._verify_readers", lambda *_: None)
    monkeypatch.setattr("model.export.gate._verify_tokenizers", lambda *_: None)
    monkeypatch.setattr(
        "model.export.gate.read_hugging_face_directory", lambda _: SimpleNamespace(tokenizer=None)
    )
    export.config = changes
    with pytest.raises(PipelineError, match=message):
        export.run()


def test_a_head_that_is_loaded_untied_is_caught(export, monkeypatch):
    from model.export import gate

    def untie(directory):
        model = load(directory)
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        return model

    load = gate.load_hugging_face_model
    monkeypatch.setattr(gate, "load_hugging_face_model", untie)
    with pytest.raises(
        PipelineError, match=r"lm_head\.weight is not tied to transformer\.wte\.weight"
    ):
        export.run()


@pytest.mark.parametrize("part", ["attn.c_proj.weight", "ln_2.bias", "mlp.c_fc.weight"])
def test_logits_alone_would_name_the_layer_too(export, monkeypatch, part):
    monkeypatch.setattr("model.export.gate._verify_modules", lambda *_: None)
    rolled(f"transformer.h.0.{part}")(export)
    with pytest.raises(
        PipelineError, match=r"logits differ .* first diverging layer: transformer\.h\.0;"
    ):
        export.run()


def test_the_tolerance_is_the_documented_way_past_what_is_computed_and_not_past_what_is_stored(
    export,
):
    untransposed("attn.c_proj")(export)
    parity = export.run(tolerance=1e9)
    assert parity.max_abs_logit_difference > 0.1
    second_head(export)
    with pytest.raises(PipelineError, match=r"holds lm_head\.weight"):
        export.run(tolerance=1e9)


def test_a_right_export_of_every_shape_passes(tmp_path, tokenizer):
    from model.network.gpt import GPTConfig

    for layers, heads, width in ((1, 1, 16), (3, 4, 32), (2, 8, 64)):
        network = GPTConfig(layers=layers, heads=heads, width=width, context=16, vocab_size=576)
        directory = tmp_path / f"{layers}-{heads}-{width}"
        save_checkpoint(directory / "checkpoint", random_gpt(network), checkpoint_config(network))
        tokens = torch.randint(0, 576, (2, 17), generator=torch.Generator().manual_seed(1))
        Export(
            directory / "checkpoint",
            directory / "export",
            tokens,
            tokenizer,
            table=export_table(layers),
        ).run()


def test_an_export_loads_plainly_with_a_tied_head_in_float32(export):
    export.run()
    model = AutoModelForCausalLM.from_pretrained(export.directory)
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
    assert model.dtype == torch.float32
    config = json.loads((export.directory / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    assert (config["bos_token_id"], config["eos_token_id"]) == (END_OF_TEXT, END_OF_TEXT)


def test_the_table_names_every_tensor_of_a_checkpoint_once(network):
    sources = [entry.source for entry in export_table(2)]
    assert sorted(sources) == sorted(
        name for name in random_gpt(network).state_dict() if name != weight_map._TIED_TARGET
    )
    assert len({entry.target for entry in export_table(2)}) == len(sources)
