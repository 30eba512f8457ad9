"""What tells conditions apart: a module each, of the name that params.yaml's `conditions` has, which defines CONDITION.

`tokenize` and `export` depend on the module of their own condition alone, so a new one reruns nothing of the others. What follows
`tokenize` reads the vocabulary that it wrote, and `export` stops unless that vocabulary is the one that the module defines.
"""

from typing import NamedTuple

from model.tokens.bpe import PATTERN


class Condition(NamedTuple):
    """How text becomes ids.

    `pattern`: the regular expression, for tiktoken and for Hugging Face's tokenizers alike, whose matches are encoded one by
    one. It has to match every character, and to treat white space as GPT-2's does. `mul_facts`: plainly stated products
    become tokens in training documents.
    """

    pattern: str = PATTERN
    mul_facts: bool = False
