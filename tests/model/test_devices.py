"""What the pipeline promises on a GPU. Each test runs on the CPU too, in the same dtype and
compiled, so that its own code and as much of ours as torch allows is shown to work without a GPU.
"""

import shutil

import pytest
import torch
import torch.distributed as dist
from gpt2_directories import real_items
from scored_models import trained_gpt2  # noqa: F401
from small_objects import checkpoint_config, write_token_split
from tiny_fine_tuning import new_project
from tiny_training import NATIVE, ONE_PROCESS, params

import model.pretraining.losses as losses_module
from model.hugging_face.directory import read_hugging_face_directory
from model.hugging_face.loading import load_hugging_face_model
from model.network.checkpoints import write_checkpoint
from model.network.gpt import GPT, GPTConfig
from model.numerics.setting import set_numerics
from model.numerics.side_by_side import SideBySide
from model.params.numerics import NumericsParams
from model.post_training.chat_format import prompt_ids
from model.post_training.decoding import continue_greedily
from model.pretraining.gradients import MicroBatchGradients
from model.pretraining.loop import LossNetwork, Training
from model.pretraining.state import RunStore
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.runtime.distributed import Processes
from model.scoring.scorer import Scorer
from model.tasks.wordings import WORDINGS

pytestmark = pytest.mark.slow("compiles networks, and scores in two ways", minutes=1)

STEPS = 50
NETWORK = GPTConfig(layers=2, heads=2, width=32, context=16, vocab_size=100)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
COMPILED = pytest.param(
    True,
    marks=pytest.mark.skipif(
        shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
    ),
)
# Nats of the training loss, over 50 steps, beside the CPU's in float32. Read off the CPU: float32
# compiled differs by 1e-6, bfloat16 by 5e-3.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


@pytest.fixture(autouse=True)
def _native():
    """Use torch's own deterministic kernels, and give torch's setting back."""
    before = torch.are_deterministic_algorithms_enabled()
    set_numerics(NumericsParams(kernels="native", threads=1))
    yield
    torch.use_deterministic_algorithms(before)
    torch._dynamo.reset()


class Stopped(Exception):
    pass


class Run:
    """A training run in `folder`, which may stop before the batch of a step and go on later."""

    def __init__(self, folder, device: str = "cpu", dtype: str = "float32", compiled=False):
        documents = [[99, *((7 * token * n) % 50 for token in range(n, n + 20))] for n in range(60)]
        self.splits = write_token_split(folder / "tokens", documents)
        self.folder, self.device = folder, device
        self.params = params(
            max_steps=STEPS,
            checkpoint_steps=[STEPS],
            log_every=10,
            validate_every=25,
            state_every=10,
            learning_rate=3e-3,
            device=device,
            dtype=dtype,
            compile=compiled,
        )
        (folder / "scratch").mkdir()

    def __call__(self, stop_at: int | None = None) -> tuple[list[float], dict[str, bytes]]:
        """Return the training losses and the bytes of the checkpoint."""
        model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0)).to(self.device)
        rows = TrainingRows(self.splits[0], NETWORK.context, seed=0)
        validation = Validation(self.splits[1], 20, NETWORK.context, "drills")
        training = Training(model, rows, validation, self.params, NATIVE, ONE_PROCESS, "r")
        made = training._batch

        def batch(step: int) -> torch.Tensor:
            if step == stop_at:
                raise Stopped
            return made(step)

        training._batch = batch

        def save(partial, step, model):
            write_checkpoint(partial, model, checkpoint_config(NETWORK, step=step))

        scratch = self.folder / "scratch"
        history = training.run(RunStore(scratch, [STEPS], save, ONE_PROCESS, "r"))
        files = sorted(scratch.glob("checkpoints/*/*"))
        assert files
        losses = [point.train_loss for point in history.training]
        return losses, {path.name: path.read_bytes() for path in files}


def new_run(tmp_path, name: str, *arguments) -> Run:
    (tmp_path / name).mkdir()
    return Run(tmp_path / name, *arguments)


@pytest.mark.parametrize("compiled", [False, COMPILED])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", DEVICES)
def test_runs_have_the_same_bytes_twice_and_after_a_kill_and_follow_the_cpu(
    tmp_path, monkeypatch, device, dtype, compiled
):
    for name in ("_ROWS_ON_CPU", "_ROWS_ON_GPU"):  # blocks of two sizes, a kernel for each
        monkeypatch.setattr(losses_module, name, 20)
    losses, files = new_run(tmp_path, "first", device, dtype, compiled)()
    assert new_run(tmp_path, "second", device, dtype, compiled)() == (losses, files)
    killed = new_run(tmp_path, "killed", device, dtype, compiled)
    with pytest.raises(Stopped):
        killed(34)
    torch._dynamo.reset()  # another process compiles anew
    assert killed() == (losses, files)
    on_the_cpu, _ = new_run(tmp_path, "cpu")()
    assert losses == pytest.approx(on_the_cpu, abs=TOLERANCE[dtype])
    assert on_the_cpu[-1] < on_the_cpu[0] - 0.5, "the network has to learn, or nothing is followed"


def test_a_network_that_does_not_learn_the_same_would_be_seen(tmp_path, monkeypatch):
    on_the_cpu, _ = new_run(tmp_path, "cpu")()
    other = new_run(tmp_path, "other")
    other.params = other.params.model_copy(update={"learning_rate": 4.5e-3})
    losses, _ = other()
    assert losses != pytest.approx(on_the_cpu, abs=TOLERANCE["bfloat16"])


@pytest.mark.parametrize("device", DEVICES)
def test_one_process_of_a_group_computes_the_same_gradients(device, tmp_path):
    """DistributedDataParallel over NCCL, or gloo on a CPU, as the pretrain stage starts it."""
    chosen = params(batch_rows=4, micro_batch_rows=2, device=device)
    rows = torch.randint(
        0, 100, (4, NETWORK.context + 1), generator=torch.Generator().manual_seed(1)
    )

    def gradients(processes: Processes) -> list[torch.Tensor]:
        model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0)).to(device)
        network = LossNetwork(model, chosen)
        loss = MicroBatchGradients(network, 2, processes, torch.device(device))(rows)
        return [loss, *(parameter.grad.clone() for parameter in model.parameters())]

    alone = gradients(ONE_PROCESS)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        # `count` is what makes it exchange; the group has this process only.
        together = gradients(Processes(rank=0, local_rank=0, count=2))
    finally:
        dist.destroy_process_group()
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def scores(directory, items, device: str, dtype: str = "float32", batch_tokens: int = 4096):
    numerics = NATIVE
    gpt2 = read_hugging_face_directory(directory)
    scorer = Scorer(gpt2, device, dtype, numerics, batch_tokens, ONE_PROCESS)
    return [score.nats for score in scorer.score(items, WORDINGS["lm_eval"], "devices")]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-3), ("bfloat16", 1.5)])
@pytest.mark.parametrize("device", DEVICES)
def test_scores_agree_with_the_cpus(trained_gpt2, device, dtype, tolerance):
    items = real_items(40)
    expected, found = scores(trained_gpt2, items, "cpu"), scores(trained_gpt2, items, device, dtype)
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, abs=tolerance)
    best = [[row.index(min(row)) for row in rows] for rows in (expected, found)]
    same = sum(one == other for one, other in zip(*best, strict=True))
    assert same >= (40 if dtype == "float32" else 36)


@pytest.mark.gpu
def test_out_of_memory_halves_the_batch_and_gives_the_same_result(trained_gpt2, capsys):
    """A CPU's memory is limited in tests/hostile/test_memory.py."""
    items = real_items(400)
    expected = scores(trained_gpt2, items, "cuda", batch_tokens=512)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    taken = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((taken + 128 * 2**20) / total)
    try:
        found = scores(trained_gpt2, items, "cuda", batch_tokens=10**6)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory for a batch of" in capsys.readouterr().err
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, abs=2e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_greedy_texts_are_the_cpus(tmp_path, tokenizer, device):
    project = new_project(tmp_path / "gpt2", tokenizer)
    questions = ("one", "two and two", "a longer question than that", "x")
    prompts = [prompt_ids(project.tokenizer, question) for question in questions]

    def texts(device: str, batch_rows: int) -> list:
        model = load_hugging_face_model(project.directory).to(device)
        return continue_greedily(model, prompts, 16, batch_rows, "test", SideBySide(1))

    assert texts(device, 4) == texts("cpu", 1)
