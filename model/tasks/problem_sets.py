"""The sets of problems to which the fine-tuned models write answers.

The stage `problems` writes data/problems/NAME.jsonl, `generate` writes the answers, and `gsm8k`
reads a number from each. The figures of every set are compared and shown in the tables;
model/tasks/labels.py has their words.
"""

PROBLEM_SETS = ("generated", "gsm8k")
