"""Publishing: what stops it, what the card states, what a hub is sent, and how others check it.

The repository is the committed text with a tiny export and a tiny fine-tuned model in place of two
of the run's; huggingface_hub speaks to tests/helpers/model_hub.py.
"""

import io
import json
import re
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from committed import check_out
from committed_clone import TEXT, git
from huggingface_hub import ModelCard
from model_hub import TOKEN, hub  # noqa: F401
from safetensors.torch import load_file, save_file
from small_objects import checkpoint_config, random_gpt, save_checkpoint

from common.errors import PipelineError
from common.files import CHECKSUMS, sha256_file, write_checksums, write_json
from model.export.gate import Source, keep_export
from model.export.hf_tokenizer import to_hugging_face
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.canary import mean_loss
from model.network.checkpoints import read_checkpoint, weights_sha256
from model.network.gpt import GPTConfig
from pipeline.check import result_findings
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph, directory_hash
from pipeline.dvc_support.objects import file_md5
from tools.ask.models import find_model
from tools.model_copies import verified_copy
from tools.publish import __main__ as publish
from tools.publish.card import Choices
from tools.publish.checks import entries_of, model_of, read_commit
from tools.publish.hub import told, upload
from tools.publish.published import CARD, PROVENANCE, published_files, sha256_of
from tools.verify import __main__ as verify

NAME = "me/tiny"
CARD_TEXT = """---
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, baseline]
---

# A tiny export

Its checkpoint's weights have SHA-256 `{weights}`.
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer) -> tuple[Path, str, str]:
    """Return the repository, and its export and fine-tuned model; tests work on copies of it."""
    root = tmp_path_factory.mktemp("publish") / "repository"
    check_out(root, *TEXT, ".gitignore", "requirements.txt")
    assert result_findings(WorkingTree(root)) == []
    graph = Graph(WorkingTree(root))
    outputs = {out: md5 for each in graph.lock.values() for out, md5 in each.outs.items()}
    tuned = min(out for out in outputs if out.startswith("sft/"))
    export = tuned.replace("sft/", "exports/")
    parity = f"metrics/{tuned.removeprefix('sft/')}/parity.json"
    weights, found = tiny_export(root.parent / "checkpoint", root / export, tokenizer)
    write_json(root / parity, {**found._asdict(), "weights_sha256": weights})
    (root / tuned).mkdir(parents=True)
    for path in (root / export).iterdir():
        if path.name != CHECKSUMS:
            shutil.copy(path, root / tuned / path.name)
    (root / tuned / CARD).write_text("---\nlibrary_name: transformers\n---\n\n# Fine-tuned\n")
    write_checksums(root / tuned)
    record(root, outputs[parity], file_md5(root / parity))
    for output in (export, tuned):
        record(root, outputs[output], directory_hash(entries_of(root / output)))
    git(root, "init", "-q", "-b", "main")
    commit(root)
    return root, export, tuned


def tiny_export(checkpoint: Path, output: Path, tokenizer):
    network = GPTConfig(layers=1, heads=2, width=16, context=16, vocab_size=tokenizer.size)
    save_checkpoint(checkpoint, random_gpt(network), checkpoint_config(network))
    config, raw = read_checkpoint(checkpoint)
    model = random_gpt(network)
    rows = torch.arange(34).view(2, 17)
    with torch.no_grad():
        loss = mean_loss(model(rows[:, :-1]), rows[:, 1:])

    def write(folder: Path) -> None:
        settings = hugging_face_config(config.network, tokenizer.end_of_text)
        tensors = map_tensors(raw, export_table(config.network.layers))
        build_hugging_face_model(settings, tensors).save_pretrained(folder)
        to_hugging_face(tokenizer, config.network.context).save_pretrained(folder)

    weights = weights_sha256(checkpoint)
    source = Source(model, tokenizer, rows, ["A text."], loss)
    return weights, keep_export(
        output, write, source, lambda _: CARD_TEXT.format(weights=weights), 1e-4
    )


def record(root: Path, old: str, new: str) -> None:
    """Replace an MD5 wherever dvc.lock has it."""
    lock = (root / "dvc.lock").read_text()
    assert old in lock
    (root / "dvc.lock").write_text(lock.replace(old, new))


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "results")
    return git(root, "rev-parse", "HEAD").strip()


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> Path:
    root = Path(shutil.copytree(made[0], tmp_path / "repository", symlinks=True))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def export(made, project) -> Path:
    return project / made[1]


@pytest.fixture(scope="module")
def files(made):
    """Return what is to be published of the export."""
    with redirect_stdout(io.StringIO()):
        found, _ = publish.prepared(made[0], made[0] / made[1], Choices(NAME, "en", None))
    return found


def call(monkeypatch, main, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


def refused(root: Path, directory: Path) -> str:
    """Return the line with which publishing is refused."""
    with pytest.raises(PipelineError) as error, redirect_stdout(io.StringIO()):
        publish.prepared(root, directory, Choices(NAME, "en", None))
    assert "\n" not in str(error.value)
    return str(error.value)


def send(files, **changes):
    return upload(
        NAME, files, **{"branch": "main", "private": False, "message": "a model", **changes}
    )


def sent_refused(files, **changes) -> str:
    with pytest.raises(PipelineError) as error, told(NAME):
        send(files, **changes)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    return str(error.value)


def checked(root: Path, model: object, monkeypatch, capsys) -> str:
    monkeypatch.chdir(root)
    capsys.readouterr()
    call(monkeypatch, verify.main, model)
    return capsys.readouterr().out


def differs(root: Path, model: object, monkeypatch) -> str:
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError) as error:
        call(monkeypatch, verify.main, model)
    return str(error.value)


def test_a_dry_run_shows_all_files_and_the_card_without_a_network(
    made, project, export, files, monkeypatch, capsys
):
    (project / "NOTES.md").write_text("an edit of what dvc.lock does not record")
    call(monkeypatch, publish.main, export.relative_to(project), NAME, "--dry-run")
    said = capsys.readouterr().out
    for name, content in files.items():
        assert f"{sha256_of(content)}  {name}\n" in said, "the same bytes as in another clone"
    assert files[CARD].decode() in said
    assert said.endswith(f"dry run: {len(files)} files for {NAME}; nothing was sent\n")


def test_the_card_has_the_hubs_metadata_and_the_commits_figures(made, files):
    root, output, _ = made
    card = ModelCard(files[CARD].decode())
    scores = json.loads(
        (root / "metrics" / Path(output).relative_to("exports") / "evaluation.json").read_text()
    )
    acc_norm = scores["hellaswag"]["acc_norm"]
    stated = [each for each in card.data.eval_results if each.dataset_type == "Rowan/hellaswag"]
    assert [each.metric_value for each in stated if each.metric_name.startswith("acc_norm (")] == [
        acc_norm["rate"]
    ]
    low, high = acc_norm["interval_95"]
    shown = f"{acc_norm['total']:,} | {acc_norm['rate']:.4f} | {low:.4f} to {high:.4f} | 0.2500"
    assert f"| HellaSwag | acc_norm | {shown} |" in card.text
    assert card.data.library_name == "transformers"
    assert card.data.language == "en"
    assert card.data.license is None
    assert "No license is stated" in card.text
    assert "rajpurkar/squad" in card.data.datasets
    tokenized = json.loads(
        (root / "metrics" / Path(output).parts[1] / "tokenize.json").read_text()
    )["train"]["tokens"]
    [step, read, share] = re.search(
        r"Pretraining to step ([\d,]+) read ([\d,]+) tokens, ([\d.]+) % as many", card.text
    ).groups()
    assert f"step_{step.replace(',', '')}" == Path(output).name
    assert f"| tokens | {read} |" in card.text
    assert float(share) == pytest.approx(100 * int(read.replace(",", "")) / tokenized, abs=0.1)
    assert "# A tiny export" in card.text
    assert git(root, "rev-parse", "HEAD").strip() in card.text
    assert sha256_file(root / "dvc.lock") in card.text


def test_a_fine_tuned_models_card_has_the_answers_figures(made, capsys):
    root, _, tuned = made
    found, _ = publish.prepared(root, root / tuned, Choices(NAME, "en", "mit"))
    card = ModelCard(found[CARD].decode())
    strict = json.loads((root / Path("metrics", *Path(tuned).parts[1:3], "gsm8k.json")).read_text())
    values = {
        (each.dataset_type, each.metric_name.split(" (")[0]): each.metric_value
        for each in card.data.eval_results
    }
    assert values["openai/gsm8k", "strict"] == strict["gsm8k"]["strict"]["rate"]
    assert ("products", "seen, plain prompt, answer as text") in values
    assert card.data.license == "mit"


def test_what_is_published_is_a_checksummed_directory_of_the_same_weights(hub, files, made):
    sent = send(files)
    there = hub.files(NAME)
    assert there.keys() == {*files, ".gitattributes"}
    assert there["model.safetensors"] == (made[0] / made[1] / "model.safetensors").read_bytes()
    assert hub.requests == ["create", "preupload", "lfs", "commit"]
    assert sent.is_new
    assert sent.url == f"{hub.endpoint}/{NAME}/tree/{hub.branches[NAME]['main']}"
    folder = hub.folder / sent.revision
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/CACHEDIR.TAG").touch()
    assert find_model(str(folder)) == folder, "tools.ask reads it"
    assert verified_copy(folder) == folder
    (folder / "more.py").touch()
    with pytest.raises(PipelineError, match=r"more\.py: SHA256SUMS beside it does not list it"):
        verified_copy(folder)
    (folder / "more.py").unlink()
    (folder / "config.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"config\.json: missing or altered"):
        find_model(str(folder))


def test_the_same_bytes_make_no_second_commit(hub, files):
    first = send(files)
    again = send(files)
    assert again == first._replace(is_new=False)
    assert hub.requests.count("commit") == 1


def test_a_later_model_replaces_the_files_of_an_earlier_one(hub, files):
    shard = "model-00001-of-00002.safetensors"
    earlier = {**files, shard: b"of an earlier one"}
    earlier[CHECKSUMS] += f"{sha256_of(earlier[shard])}  {shard}\n".encode()
    first = send(earlier)
    assert send(files).revision != first.revision
    assert hub.files(NAME).keys() == {*files, ".gitattributes"}


def test_a_branch_and_a_private_repository(hub, files):
    send(files, branch="candidate", private=True)
    assert hub.private[NAME]
    assert hub.files(NAME).keys() == {".gitattributes"}
    assert hub.files(NAME, "candidate").keys() == {*files, ".gitattributes"}


def test_a_public_repository_is_not_taken_for_a_private_one(hub, files):
    hub.create(NAME)
    assert "is public" in sent_refused(files, private=True)
    assert hub.requests == []


def test_a_repository_with_files_of_others_is_left_alone(hub, files):
    hub.create(NAME)
    hub.commit(NAME, "main", {"notes.txt": b"mine"})
    assert "holds notes.txt, which tools.publish did not write" in sent_refused(files)
    hub.commit(NAME, "main", {"notes.txt": None, CARD: b"# Mine"})
    assert f"holds {CARD}, which" in sent_refused(files)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["LICENSE", "tiny.gguf"])
def test_a_file_that_others_added_to_a_published_model_stays(hub, files, name):
    send(files)
    hub.commit(NAME, "main", {name: b"of others"})
    assert f"holds {name}, which tools.publish did not write" in sent_refused(
        {**files, "config.json": b"{}"}
    )
    assert hub.files(NAME)[name] == b"of others"
    assert f"holds {name}, which" in sent_refused({**files, name: b"ours"}), "nor is it replaced"


def test_damaged_sums_on_the_hub_let_nothing_be_deleted(hub, files):
    send(files)
    hub.commit(NAME, "main", {CHECKSUMS: b"no sums"})
    assert "which tools.publish did not write" in sent_refused(files)


def test_a_wrong_token_is_one_line_and_creates_nothing(hub, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    said = sent_refused(files)
    assert said.endswith("hf auth login, or set HF_TOKEN")
    assert "hf_wrong" not in said
    monkeypatch.delenv("HF_TOKEN")
    assert sent_refused(files) == said
    assert (hub.requests, hub.branches) == ([], {})


def test_a_repository_of_another_owner_is_one_line(hub, files, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "NAME", "somebody/tiny")
    assert "the token may not write there" in sent_refused(files)


def test_no_network_is_one_line(hub, files):
    hub.shutdown()
    hub.server_close()
    assert "check the network" in sent_refused(files)


def test_an_upload_that_is_cut_goes_on(hub, files):
    hub.faults["lfs"] = ["cut"]
    hub.faults["commit"] = ["cut"]
    assert "check the network, then run this again" in sent_refused(files)
    assert hub.requests == ["create", "preupload", "lfs"], "huggingface_hub sent the file again"
    assert hub.files(NAME).keys() == {".gitattributes"}, "nothing is half there"
    assert send(files).is_new
    assert hub.requests.count("lfs") == 1, "the hub has it already"


def test_a_hub_that_keeps_other_bytes_is_found(hub, files):
    hub.faults["commit"] = ["alter"]
    assert "config.json is not there as it was sent" in sent_refused(files)


@pytest.mark.parametrize(
    "name", ["tiny", "me/tiny/deep", "../tiny", "me/ti ny", "me/", "", "me/a..b"]
)
def test_a_name_that_the_hub_does_not_take(name, project, export, monkeypatch):
    with pytest.raises(PipelineError, match="give OWNER/NAME"):
        call(monkeypatch, publish.main, export, name)


@pytest.mark.parametrize(
    "option",
    [("--license", "mit. It beats GPT-4"), ("--language", "en\n# Best"), ("--license", "")],
)
def test_what_the_publisher_states_is_no_free_text(option, export, monkeypatch):
    with pytest.raises(PipelineError, match="give the hub's identifier") as error:
        call(monkeypatch, publish.main, export, NAME, *option)
    assert "\n" not in str(error.value)


# What stops publishing: each breaks one thing of the repository, and sees the line.


def test_a_torn_export(project, export):
    weights = export / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "model.safetensors: missing or altered" in refused(project, export)


def test_an_export_that_the_lock_does_not_record(project, export):
    (export / "config.json").write_text((export / "config.json").read_text() + " ")
    write_checksums(export)
    assert "dvc.lock of commit" in refused(project, export)


def test_a_folder_that_is_no_output(project, export):
    other = Path(shutil.copytree(export, project / "exports/other"))
    assert "no export or fine-tuned model" in refused(project, other)
    assert "outside" in refused(project / "model", export)


@pytest.mark.parametrize("path", ["params.yaml", "model/export/weight_map.py", "dvc.lock"])
def test_an_edit_that_is_not_committed(project, export, path):
    (project / path).write_text((project / path).read_text() + "# edited\n")
    assert f"{path}: edited since commit" in refused(project, export)


def test_a_new_module_that_is_not_committed(project, export):
    (project / "model/params/new.py").write_text('"""New."""\n')
    assert "model/params/new.py: edited since commit" in refused(project, export)


@pytest.mark.parametrize(
    ("path", "stage"),
    [("model/export/weight_map.py", "export"), ("model/tasks/item_scores.py", "evaluate")],
)
def test_code_that_was_committed_after_the_run(project, export, path, stage):
    (project / path).write_text((project / path).read_text() + "# edited\n")
    commit(project)
    said = refused(project, export)
    assert "dvc.lock: " in said
    assert f"{stage}@" in said
    assert f"{path} has changed" in said


def test_code_that_dvc_yaml_does_not_list(project, export):
    """The stage's lock entry is without it too, so nothing looks stale."""
    for name, entry in (
        ("dvc.yaml", r"      - model/export\n"),
        ("dvc.lock", r"    - path: model/export\n(?:      .*\n)+"),
    ):
        text, count = re.subn(entry, "", (project / name).read_text())
        assert count
        (project / name).write_text(text)
    commit(project)
    assert "dvc.yaml: export: " in refused(project, export)


def test_figures_that_are_not_what_the_stage_wrote(project, export, made):
    path = project / "metrics" / Path(made[1]).relative_to("exports") / "evaluation.json"
    path.write_text(path.read_text().replace('"correct": ', '"correct": 1', 1))
    commit(project)
    assert "evaluation.json: is not what evaluate@" in refused(project, export)


def parity_of(project: Path, made, **changes) -> None:
    path = project / "metrics" / Path(made[1]).relative_to("exports") / "parity.json"
    before = file_md5(path)
    write_json(path, {**json.loads(path.read_text()), **changes})
    record(project, before, file_md5(path))
    commit(project)


def test_the_parity_of_other_weights(project, export, made):
    parity_of(project, made, weights_sha256="0" * 64)
    assert "is of weights 000000000000" in refused(project, export)


def test_logits_that_differ_by_more_than_the_tolerance(project, export, made):
    parity_of(project, made, max_abs_logit_difference=2e-3)
    assert "logits differ by 0.002" in refused(project, export)


def test_a_model_that_does_not_read_back(project, export, made):
    """The stage would have to write it so, and the lock to record it."""
    before = directory_hash(entries_of(export))
    tensors = load_file(export / "model.safetensors")
    tensors["transformer.ln_f.bias"][0] = float("nan")
    save_file(tensors, export / "model.safetensors", {"format": "pt"})
    write_checksums(export)
    record(project, before, directory_hash(entries_of(export)))
    commit(project)
    assert "ln_f.bias is not finite" in refused(project, export)


# What others see.


def test_a_published_model_is_that_of_the_lock(hub, files, made, project, monkeypatch, capsys):
    sent = send(files)
    said = checked(project, NAME, monkeypatch, capsys)
    head = git(project, "rev-parse", "HEAD").strip()
    assert said.startswith(f"match: {NAME} at {sent.revision} is {made[1]} of commit {head}")
    assert f"card and {PROVENANCE} are those of commit {head}" in said
    folder = hub.folder / sent.revision
    assert checked(project, folder, monkeypatch, capsys).startswith("match: "), "a copy on disk"


def test_an_export_on_disk_is_that_of_the_lock(project, export, monkeypatch, capsys):
    assert checked(project, export, monkeypatch, capsys).startswith(f"match: {export} is exports/")
    (export / "config.json").write_text("{}")
    assert "config.json differs from SHA256SUMS" in differs(project, export, monkeypatch)
    write_checksums(export)
    said = differs(project, export, monkeypatch)
    assert "does not record it, nor does another commit" in said


@pytest.fixture
def folder(hub, files) -> Path:
    """Return a published model as others have it on disk."""
    return hub.folder / send(files).revision


def resum(folder: Path) -> None:
    lines = [
        f"{sha256_file(path)}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name not in (CHECKSUMS, ".gitattributes")
    ]
    (folder / CHECKSUMS).write_text("".join(lines))


def test_a_published_file_that_was_altered_is_named(folder, project, monkeypatch):
    (folder / "config.json").write_text("{}")
    assert "config.json differs from SHA256SUMS" in differs(project, folder, monkeypatch)
    resum(folder)
    assert f"by {PROVENANCE}: config.json differs" in differs(project, folder, monkeypatch)
    (folder / "more.py").write_text("")
    assert "more.py is not in SHA256SUMS" in differs(project, folder, monkeypatch)
    (folder / "more.py").unlink()
    (folder / "config.json").unlink()
    assert "config.json is missing" in differs(project, folder, monkeypatch)


def test_altered_weights_under_altered_sums_are_named(folder, project, monkeypatch):
    """Whoever alters file, sums and provenance alike still does not have the lock's hash."""
    (folder / "config.json").write_text("{}")
    stated = json.loads((folder / PROVENANCE).read_text())
    old, new = (sha256_of(each) for each in (b"", b"{}"))
    lines = stated["replaced"][CHECKSUMS].splitlines(keepends=True)
    lines = [f"{new}  config.json\n" if "  config.json" in line else line for line in lines]
    stated["replaced"][CHECKSUMS] = "".join(lines)
    write_json(folder / PROVENANCE, stated)
    resum(folder)
    assert "config.json differs from exports/" in differs(project, folder, monkeypatch)
    assert old != new


def test_a_card_with_other_figures_is_found(folder, project, monkeypatch):
    text = (folder / CARD).read_text()
    (folder / CARD).write_text(text.replace("| HellaSwag | acc |", "| HellaSwag | acc_ |"))
    resum(folder)
    said = differs(project, folder, monkeypatch)
    assert f"{CARD} is not what tools.publish writes at commit" in said


def forge(folder: Path, commit: str) -> None:
    """Invent a figure, name another commit for it, and write sums that fit."""
    text = (folder / CARD).read_text()
    (folder / CARD).write_text(text.replace("| HellaSwag | acc |", "| HellaSwag | acc_ |"))
    stated = json.loads((folder / PROVENANCE).read_text())
    write_json(folder / PROVENANCE, {**stated, "commit": commit})
    resum(folder)


@pytest.mark.parametrize("named", ["unknown", "without a lock", "older"])
def test_a_card_that_cannot_be_compared_is_no_match(named, folder, project, monkeypatch, capsys):
    """Genuine weights do not vouch for invented figures."""
    older = git(project, "rev-parse", "HEAD").strip()
    if named == "without a lock":
        git(project, "rm", "-q", "--cached", "dvc.lock")
        git(project, "commit", "-qm", "no lock")
        named = git(project, "rev-parse", "HEAD").strip()
    (project / "NOTES.md").write_text("later")
    commit(project)
    forge(folder, {"unknown": "0" * 40, "older": older}.get(named, named))
    said = differs(project, folder, monkeypatch)
    assert said.startswith(f"weights match: {folder} is exports/")
    assert "; the card is NOT verified: " in said
    assert "\n" not in said
    assert capsys.readouterr().out == ""


def test_a_card_of_other_weights_of_the_same_name_is_no_match(
    folder, project, made, files, monkeypatch
):
    """The card is what tools.publish writes at its commit, which records other weights."""
    head = git(project, "rev-parse", "HEAD").strip()
    digest = directory_hash(entries_of(project / made[1]))
    record(project, digest, f"{'0' * 32}.dir")
    other = read_commit(project, commit(project))
    git(project, "switch", "-q", "--detach", head)
    own = {name: (project / made[1] / name).read_bytes() for name in (CARD, CHECKSUMS)}
    kept = {name: path for name, path in files.items() if isinstance(path, Path)}
    model = model_of(other, made[1])
    forged = published_files(other, model, kept, own, Choices(NAME, "en", None))
    for name in (CARD, PROVENANCE):
        (folder / name).write_bytes(forged[name])
    resum(folder)
    assert f"records another {made[1]}" in differs(project, folder, monkeypatch)


def test_a_copy_under_another_name_is_told(hub, files, project, monkeypatch):
    send(files)
    hub.create("you/tiny")
    hub.commit("you/tiny", "main", hub.files(NAME))
    assert f"published as {NAME}" in differs(project, "you/tiny", monkeypatch)


def test_a_model_of_another_commit_is_told_of_which(folder, project, export, monkeypatch, capsys):
    head = git(project, "rev-parse", "HEAD").strip()
    digest = directory_hash(entries_of(export))
    record(project, digest, f"{'0' * 32}.dir")
    commit(project)
    assert f"of commit {head}; git switch --detach {head[:12]}" in differs(
        project, folder, monkeypatch
    )
    git(project, "switch", "-q", "--detach", head)
    assert checked(project, folder, monkeypatch, capsys).startswith("match: ")


def test_a_later_commit_with_the_same_model_matches(folder, project, monkeypatch, capsys):
    (project / "NOTES.md").write_text("later")
    commit(project)
    said = checked(project, folder, monkeypatch, capsys)
    assert said.startswith("match: ")
    assert f"card and {PROVENANCE} are those of commit" in said


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "a\x1b[2J"])
def test_a_name_that_leads_out_of_the_repository(hub, files, project, name, monkeypatch):
    send(files)
    hub.listed.append(name)
    assert "do not use this model" in differs(project, NAME, monkeypatch)


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "--help"},
        {"replaced": {}},
        {"license": 3},
        {"license": "mit. It beats GPT-4"},
        {"language": "en\n# Best"},
        {"repository": "me/tiny. It is safe"},
    ],
)
def test_a_provenance_of_another_form(folder, project, change, monkeypatch):
    stated = json.loads((folder / PROVENANCE).read_text())
    write_json(folder / PROVENANCE, {**stated, **change})
    resum(folder)
    assert f"{PROVENANCE}: not as tools.publish writes it" in differs(project, folder, monkeypatch)


def test_what_the_hub_does_not_have_is_one_line(hub, files, project, monkeypatch):
    assert "no such repository" in differs(project, "me/nothing", monkeypatch)
    send(files)
    monkeypatch.setattr(sys, "argv", ["verify", NAME, "--revision", "nothing"])
    with pytest.raises(PipelineError, match="no such revision"):
        verify.main()
