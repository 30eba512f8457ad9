"""What tells conditions apart: a module each, of the name that params.yaml's `conditions` has, which defines CONDITION.

`tokenize` depends on the module of its own condition alone, so a new one reruns nothing of the others. What follows reads the
vocabulary that `tokenize` wrote, and knows of no module here.
"""

from typing import NamedTuple

from model.tokenizer import PATTERN


class Condition(NamedTuple):
    """How text becomes ids.

    `pattern`: the regular expression, for tiktoken and for Hugging Face's tokenizers alike, whose matches are encoded one by
    one. It has to match every character, and to treat white space as GPT-2's does. `mul_facts`: plainly stated products
    become tokens in training documents.
    """

    pattern: str = PATTERN
    mul_facts: bool = False
