"""GPT-2's byte-pair encoding, with a token for each of 45 multiplication facts."""

from model.conditions import Condition

CONDITION = Condition(mul_facts=True)
