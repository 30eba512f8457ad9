"""The conditions: params.yaml's `conditions` names modules of this package, each with a CONDITION.

`tokenize` and `export` depend only on the module of their own condition, so a new condition reruns
nothing of the others. Later stages read the vocabulary that `tokenize` wrote. `export` stops unless
that vocabulary is the one that the module defines.
"""

from typing import NamedTuple

from model.tokens.bpe import PATTERN


class Condition(NamedTuple):
    """How text becomes ids.

    `pattern` is the regular expression whose matches are encoded one by one, read by tiktoken and
    by Hugging Face's tokenizers. It must match every character, and treat white space as GPT-2's
    does. If `mul_facts` is true, plainly stated products become tokens in training documents.
    """

    pattern: str = PATTERN
    mul_facts: bool = False
