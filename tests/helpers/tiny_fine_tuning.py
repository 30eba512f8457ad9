"""A random GPT-2 with its tokenizer, and conversations to fine-tune it on."""

from pathlib import Path

from gpt2_directories import save_gpt2

from model.data.conversations import two_turns
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import load_hugging_face_model
from model.numerics.setting import Numerics, set_numerics
from model.numerics.side_by_side import SideBySide
from model.params.numerics import NumericsParams
from model.params.sft import SftParams
from model.post_training.chat_format import Row, conversation_row, prompt_ids
from model.post_training.decoding import continue_greedily
from model.post_training.trainer import fine_tune
from model.tokens.export_tokenizer import FactTokenizer

ANSWERS = {"one": "1", "two": "22", "three": "333", "four": "4444 and so on"}
PARAMS = SftParams(
    max_steps=60,
    batch_rows=4,
    learning_rate=5e-3,
    warmup_steps=5,
    weight_decay=0.0,
    beta1=0.9,
    beta2=0.99,
    gradient_clip=1.0,
    inject_facts=False,
    log_every=10,
    state_every=20,
    device="cpu",
    dtype="float32",
)


NATIVE = NumericsParams(kernels="native", threads=1)


def new_project(directory: Path, tokenizer) -> "Project":
    """Save a random GPT-2 with `tokenizer` in `directory`."""
    save_gpt2(directory, tokenizer, layers=2, heads=2, width=32, context=48)
    return Project(directory)


class Project:
    """A GPT-2 with its tokenizer, and rows to fine-tune it on."""

    def __init__(self, directory: Path):
        self.directory = directory
        config = load_hugging_face_model(directory).config
        self.tokenizer = FactTokenizer(
            read_tokenizer(directory, config.vocab_size), config.eos_token_id
        )
        conversations = [two_turns("x", question, answer) for question, answer in ANSWERS.items()]
        self.rows = [
            conversation_row(self.tokenizer, each.messages, False)
            for _ in range(8)
            for each in conversations
        ]

    def train(
        self,
        states: Path,
        params: SftParams = PARAMS,
        seed: int = 0,
        rows: list[Row] | None = None,
        numerics: Numerics | None = None,
    ):
        """Return the trained model and its curve; resume from the newest state in `states`."""
        numerics = numerics or set_numerics(NATIVE)
        model = load_hugging_face_model(self.directory)
        states.mkdir(parents=True, exist_ok=True)
        curve = fine_tune(model, rows or self.rows, params, seed, states, "sft x", numerics)
        return model.eval(), curve

    def answers(self, model, batch_rows: int = 4, threads: int = 1) -> list[tuple[str, bool]]:
        prompts = [prompt_ids(self.tokenizer, question) for question in ANSWERS]
        return [
            (self.tokenizer.decode(ids), stopped)
            for ids, stopped in continue_greedily(
                model, prompts, 16, batch_rows, "test", SideBySide(threads)
            )
        ]
