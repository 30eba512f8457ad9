"""Numbers digit by digit: a digit is the same token in every number, whatever stands before it. In no profile's `conditions`."""

from model.conditions import Condition
from model.tokens.bpe import PATTERN

CONDITION = Condition(pattern=PATTERN.replace(r" ?\p{N}++", r"\p{N}"))
