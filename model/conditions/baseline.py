"""GPT-2's byte-pair encoding as it is."""

from model.conditions import Condition

CONDITION = Condition()
