"""Records of published multiple-choice benchmarks as items, in lm-evaluation-harness's wording.

Each function takes a record in the benchmark's layout on the hub, and its number. It returns the
fields of an Item. The text is that of the harness's task (0.4.13, lm_eval/tasks/), to which
tests/references/test_lm_eval_tasks.py compares every item. model/tasks/wordings.py puts one space
between context and ending, so an ending that begins with a space, as COPA's, has two before it.
Items of one passage, goal, concept or pair of names share a `source_id`: they are one cluster.
"""

from typing import Any

from model.data.items import Fields, hellaswag_fields
from model.text.characters import settled

Record = dict[str, Any]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _own(record: Record, number: int) -> Record:
    """Return an item of this repository's own format (docs/evaluation.md).

    Without a `source_id`, the item is a cluster of its own.
    """
    known = ("context", "options", "endings", "label", "source_id")
    unknown = sorted(set(record) - set(known))
    if unknown:
        raise ValueError(f"has {', '.join(unknown)}; the keys are {', '.join(known)}")
    fields = {
        "ind": number,
        "ctx": record["context"],
        "endings": record["endings"],
        "label": record["label"],
        "source_id": record.get("source_id", f"item {number}"),
    }
    return fields | ({"options": record["options"]} if "options" in record else {})


def _arc(record: Record, number: int) -> Record:
    # Context `Question: …` and `Answer:`; endings are the choices' texts. Each item is a cluster.
    return {
        "ind": number,
        "ctx": f"Question: {record['question']}\nAnswer:",
        **_lettered(record),
        "source_id": record["id"],
    }


def _openbookqa(record: Record, number: int) -> Record:
    # The context is the stem alone, which the endings complete.
    return {
        "ind": number,
        "ctx": record["question_stem"],
        **_lettered(record),
        "source_id": record["id"],
    }


def _lettered(record: Record) -> Record:
    """Return the endings of a question whose choices have letters, and the label.

    Choices labelled A, B, C with the answer key B give the label 1.
    """
    choices = record["choices"]
    return {
        "endings": list(choices["text"]),
        "label": _place(list(choices["label"]), record["answerKey"].lstrip()),
    }


def _piqa(record: Record, number: int) -> Record:
    # Several items have one goal, which is their cluster.
    return {
        "ind": number,
        "ctx": f"Question: {record['goal']}\nAnswer:",
        "endings": [record["sol1"], record["sol2"]],
        "label": record["label"],
        "source_id": record["goal"],
    }


def _winogrande(record: Record, number: int) -> Record:
    """Return an item whose contexts differ, and whose endings are one text.

    The harness compares the probabilities of what follows the blank: of `The cup fits the bag since
    the _ is small.`, that of `is small.` after `… since the cup` and after `… since the bag`. The
    wheel's records have the item under `doc`.
    """
    item = record.get("doc", record)
    before, blank, after = item["sentence"].partition("_")
    if not blank:
        raise ValueError("has no blank, _, in its sentence")
    options = [item["option1"], item["option2"]]
    return {
        "ind": number,
        "ctx": before,
        "options": options,
        "endings": [after.strip()] * 2,
        "label": _place(["1", "2"], item["answer"]),
        # WinoGrande has twins, two sentences that differ in a word and have the same two names.
        "source_id": " / ".join(sorted(options)),
    }


def _social_iqa(record: Record, number: int) -> Record:
    # Several questions have one context, which is their cluster.
    return {
        "ind": number,
        "ctx": f"Q: {record['context']} {record['question']}\nA:",
        "endings": [record["answerA"], record["answerB"], record["answerC"]],
        "label": _place(["1", "2", "3"], record["label"]),
        "source_id": record["context"],
    }


def _commonsense_qa(record: Record, number: int) -> Record:
    """Return a question that lists its answers as `A. …`, `B. …`; the endings are the letters."""
    texts = record["choices"]["text"]
    letters = _LETTERS[: len(texts)]
    answers = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    return {
        "ind": number,
        "ctx": f"Question: {record['question'].strip()}\n{answers}\nAnswer:",
        "endings": list(letters),
        "label": _place(list(letters), record["answerKey"]),
        "source_id": record["question_concept"],
    }


def _copa(record: Record, number: int) -> Record:
    # `The man fell.`, cause, and `He slipped.` become `The man fell because` and ` he slipped.`
    connectors = {"cause": "because", "effect": "therefore"}
    connector = connectors.get(record["question"])
    if connector is None:
        raise ValueError(f"asks {record['question']!r}, and neither cause nor effect")
    choices = [record["choice1"], record["choice2"]]
    return {
        "ind": number,
        "ctx": f"{record['premise'].strip()[:-1]} {connector}",
        "endings": [f" {settled(choice[0]).lower()}{choice[1:]}" for choice in choices],
        "label": record["label"],
        "source_id": f"{record['idx']}",
    }


def _place(answers: list[str], true: str) -> int | str:
    """Return the place of the true answer among `answers`.

    Returns an empty string, which Item refuses, if the answer is empty, as in a test split. Raises
    ValueError if it is not among them.
    """
    if true and true not in answers:
        raise ValueError(f"its true answer, {true!r}, is not one of {', '.join(answers)}")
    return answers.index(true) if true else ""


FORMATS: dict[str, Fields] = {
    "choices": _own,
    "hellaswag": hellaswag_fields,
    "arc": _arc,
    "piqa": _piqa,
    "winogrande": _winogrande,
    "openbookqa": _openbookqa,
    "social_iqa": _social_iqa,
    "commonsense_qa": _commonsense_qa,
    "copa": _copa,
}

# Taken unchanged, as the harness scores them: five items of Social IQa have two equal endings, and
# some items come twice.
PUBLISHED = frozenset(FORMATS) - {"choices", "hellaswag"}


def item_fields(name: str) -> Fields:
    """Return the function of a format, which raises ValueError for a record of another format."""
    make = FORMATS[name]

    def fields(record: Record, number: int) -> Record:
        try:
            return make(record, number)
        except KeyError as error:
            raise ValueError(f"has no {error}, as a record of format {name} has") from None
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError(f"is no record of format {name} ({error})") from None

    return fields


def is_item(record: Any) -> bool:
    """Return whether a record is an item, or the first record of one.

    The wheel's WinoGrande has a record for each option, with the option's number as `idx`. Only the
    first counts.
    """
    return not isinstance(record, dict) or record.get("idx", 0) == 0 or "doc" not in record
