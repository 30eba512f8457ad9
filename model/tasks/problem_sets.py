"""The sets of problems that the fine-tuned models answer in their own words.

`problems` writes data/problems/NAME.jsonl, `generate` the answers, and `gsm8k` reads them; the
figures of every set are compared and stand in the tables, under the words of model/tasks/labels.py.
"""

PROBLEM_SETS = ("generated", "gsm8k")
