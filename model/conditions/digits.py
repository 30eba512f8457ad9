"""Numbers digit by digit: a digit is one token, whatever stands before it.

No profile lists this condition.
"""

from model.conditions import Condition
from model.tokens.bpe import PATTERN

CONDITION = Condition(pattern=PATTERN.replace(r" ?\p{N}++", r"\p{N}"))
