"""A random GPT-2 with its tokenizer, and conversations to fine-tune it on."""

from pathlib import Path

from gpt2_directories import save_gpt2

from model.data.conversations import two_turns
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import load_hugging_face_model
from model.params.sft import SftParams
from model.post_training.chat_format import Row, conversation_row, prompt_ids
from model.post_training.decoding import continue_greedily
from model.post_training.trainer import fine_tune
from model.runtime.torch_setup import set_deterministic
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
    threads=1,
)


class Project:
    """A random GPT-2 with its tokenizer, and rows to fine-tune it on."""

    def __init__(self, directory: Path, tokenizer):
        self.directory = save_gpt2(directory, tokenizer, layers=2, heads=2, width=32, context=48)
        self.tokenizer = FactTokenizer(
            read_tokenizer(directory, tokenizer.size), tokenizer.end_of_text
        )
        conversations = [two_turns("x", question, answer) for question, answer in ANSWERS.items()]
        self.rows = [
            conversation_row(self.tokenizer, each.messages, False)
            for _ in range(8)
            for each in conversations
        ]

    def train(
        self, states: Path, params: SftParams = PARAMS, seed: int = 0, rows: list[Row] | None = None
    ):
        """Return the trained model and its curve, from the newest state in `states` if there is
        one.
        """
        set_deterministic(1)
        model = load_hugging_face_model(self.directory)
        states.mkdir(parents=True, exist_ok=True)
        curve = fine_tune(model, rows or self.rows, params, seed, states, "sft x")
        return model.eval(), curve

    def answers(self, model) -> list[tuple[str, bool]]:
        prompts = [prompt_ids(self.tokenizer, question) for question in ANSWERS]
        return [
            (self.tokenizer.decode(ids), stopped)
            for ids, stopped in continue_greedily(model, prompts, 16, 4, "test")
        ]
