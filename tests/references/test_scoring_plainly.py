"""Real items score as a plain loop over endings scores them."""

import pytest
from gpt2_directories import real_items, save_gpt2, scored
from scored_models import require_equal, trained_gpt2  # noqa: F401
from tricky_items import REFERENCE

from model.tasks.wordings import WORDINGS
from model.tokens.bpe import Tokenizer, read_ranks

pytestmark = pytest.mark.slow(
    "a network is trained, and a plain loop scores real items", minutes=0.5
)


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS)
def test_a_trained_model_scores_real_items_as_the_plain_way_does(trained_gpt2, wording):
    require_equal(trained_gpt2, real_items(60), wording)


def test_gpt2s_own_shapes_give_the_same_bits_for_any_budget(tmp_path, ranks_file):
    whole = Tokenizer(read_ranks(ranks_file), mul_facts=False)
    directory = save_gpt2(tmp_path, whole, layers=2, heads=12, width=768, context=256)
    items = real_items(3)
    assert scored(directory, items, REFERENCE, batch_tokens=1) == scored(
        directory, items, REFERENCE, batch_tokens=10**6, threads=1
    )
