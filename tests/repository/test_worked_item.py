"""The examples of docs/evaluation.md come out as it says.

tests/micro_graph compares the item with a real run.
"""

from repository import REPOSITORY
from worked_item import worked_item

from model.comparison.family import compare_outcomes
from model.comparison.outcomes import VALIDATION
from model.comparison.outcomes_file import parse_outcomes
from model.tasks.item_scores import is_acc_norm_right, is_acc_right, summarize
from model.tasks.wordings import WORDINGS


def test_the_worked_item_has_the_figures_that_the_document_states():
    item = worked_item()
    score = item.score
    assert score.characters == [len(ending) for ending in item.endings]
    assert item.quotients == [
        (f"{nats / tokens:.3f}", f"{nats / characters:.3f}")
        for nats, tokens, characters in zip(score.nats, score.tokens, score.characters, strict=True)
    ]
    bits = summarize([score], WORDINGS["reference"])["gold_bits_per_byte"]
    assert f"make {bits:.3f}" in item.section
    assert f"= {bits * score.bytes[score.label]:.2f} bits" in item.section


def test_the_worked_item_is_right_by_acc_and_wrong_by_acc_norm_of_tokens():
    score = worked_item().score
    assert is_acc_right([score]).tolist() == [True]
    assert is_acc_norm_right([score], WORDINGS["reference"]).tolist() == [False]
    assert is_acc_norm_right([score], WORDINGS["lm_eval"]).tolist() == [True]


def test_the_example_of_seeds_in_two_parts_is_that_of_the_committed_five_seeds():
    path = "docs/seeds/outcomes.jsonl"
    found = parse_outcomes((REPOSITORY / path).read_text(), path)
    arms = tuple(
        [
            outcomes
            for key, outcomes in found.items()
            if (key.condition, key.figure) == (condition, VALIDATION)
        ]
        for condition in ("baseline", "mul_tokens")
    )
    two = compare_outcomes("step 3200", VALIDATION, "mul_tokens", arms).comparison.over_seeds
    t = two.seeds.half() / two.seeds.error
    text = " ".join((REPOSITORY / "docs/evaluation.md").read_text().split())
    assert (
        f"sqrt(Vs) = {two.seeds.error:.4f}, and t = {t:.3f} for {two.seeds.freedom} degrees of"
        f" freedom. The seeds' part is t · sqrt(Vs) = {two.seeds.half():.4f}."
    ) in text
    assert f"h = {two.items.half():.4f}, so half = {two.half(0.05):.4f}." in text
