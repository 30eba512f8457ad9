"""The real lm-evaluation-harness, on an export of ours and real HellaSwag items, finds what we
find.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gpt2_directories import real_items, save_gpt2, scored
from repository import REPOSITORY
from small_objects import checkpoint_config, save_checkpoint

from model.export.hf_tokenizer import to_hugging_face
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.checkpoints import read_checkpoint
from model.tasks.item_scores import summarize
from model.tasks.wordings import WORDINGS
from tools.hf_import import read_gpt2

pytestmark = pytest.mark.slow("lm-evaluation-harness scores real items", minutes=0.5)

TASKS = REPOSITORY / "benchmarks" / "lm_eval_tasks"


@pytest.fixture(scope="module")
def export(tmp_path_factory, tokenizer) -> Path:
    """A trained network as our exporter writes it, from a checkpoint of ours."""
    folder = tmp_path_factory.mktemp("export")
    items = real_items(200)
    trained = save_gpt2(
        folder / "trained",
        tokenizer,
        2,
        heads=4,
        width=64,
        context=256,
        train_on=[item.ctx for item in items],
    )
    gpt = read_gpt2(trained)
    save_checkpoint(folder / "checkpoint", gpt, checkpoint_config(gpt.config))
    config, tensors = read_checkpoint(folder / "checkpoint")
    model = build_hugging_face_model(
        hugging_face_config(config.network, tokenizer.end_of_text),
        map_tensors(tensors, export_table(2)),
    )
    model.save_pretrained(folder / "export")
    to_hugging_face(tokenizer, gpt.config.context).save_pretrained(folder / "export")
    return folder / "export"


def test_lm_eval_finds_the_same_accuracies_and_predictions(export, tmp_path):
    """As README says it, in a directory with the items; some items exceed the model's context of
    256.
    """
    items = real_items(100)
    wording = WORDINGS["lm_eval"]
    (tmp_path / "data/items").mkdir(parents=True)
    (tmp_path / "data/items/hellaswag.jsonl").write_text(
        "".join(item.model_dump_json() + "\n" for item in items)
    )
    shutil.copytree(TASKS, tmp_path / "benchmarks/lm_eval_tasks")
    command = [
        Path(sys.executable).with_name("lm_eval"),
        "--model",
        "hf",
        "--model_args",
        f"pretrained={export},dtype=float32",
        "--include_path",
        "benchmarks/lm_eval_tasks",
        "--tasks",
        "hellaswag_offline",
        "--device",
        "cpu",
        "--batch_size",
        "8",
        "--log_samples",
        "--output_path",
        "found",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    [results] = [json.loads(path.read_text()) for path in tmp_path.glob("found/**/results_*.json")]
    [samples] = [
        path.read_text().splitlines() for path in tmp_path.glob("found/**/samples_*.jsonl")
    ]

    ours = scored(export, items, wording)
    metrics = summarize(ours, wording)
    theirs = results["results"]["hellaswag_offline"]
    assert (metrics["acc"]["rate"], metrics["acc_norm"]["rate"]) == (
        theirs["acc,none"],
        theirs["acc_norm,none"],
    )
    assert len(samples) == len(items)
    for sample in map(json.loads, samples):
        score = ours[sample["doc_id"]]
        nats = [-float(response[0][0]) for response in sample["resps"]]
        assert score.nats == pytest.approx(nats, abs=1e-3)
        normed = [
            nat / len(choice) for nat, choice in zip(nats, sample["doc"]["choices"], strict=True)
        ]
        assert score.characters == [len(choice) for choice in sample["doc"]["choices"]]
        for found, expected in (
            (score.nats, nats),
            (
                [nat / count for nat, count in zip(score.nats, score.characters, strict=True)],
                normed,
            ),
        ):
            assert found.index(min(found)) == expected.index(min(expected))
        assert sample["acc"] == (nats.index(min(nats)) == score.label)
