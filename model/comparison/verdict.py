"""The comparisons in sentences: the verdict, the significant differences, and their limits."""

from model.comparison.family import Judged, Row, p_words
from model.statistics.over_seeds import POWER, SIGNIFICANT
from model.statistics.paired import FEW_CLUSTERS


def sentences(first: str, family: list[Judged], is_revisions: bool = False) -> list[str]:
    """Return the verdict, then a sentence for each significant difference.

    `first` is the first condition, or with `is_revisions` the revision with which the working tree
    is compared. With one seed the verdict is about two networks, never about the conditions.
    """
    if not family:
        return ["There is nothing to compare."]
    # Figures with the same outcome for every item are one comparison and count once.
    once = [judged for judged in family if judged.same_as is None]
    different = [judged for judged in once if judged.is_different]
    if any(judged.row.comparison.seeds == 1 for judged in once):
        verdict = (
            _between_revisions(first, once, different)
            if is_revisions
            else _between_networks(first, once, different)
        )
    else:
        verdict = _over_seeds(first, once)
    return [verdict, *(_difference(first, judged) for judged in different)]


def _over_seeds(first: str, once: list[Judged]) -> str:
    """Return the verdict over several seeds: the primary figure, then the secondary ones."""
    primary = [judged for judged in once if judged.row.role == "primary"]
    secondary = [judged for judged in once if judged.row.role == "secondary"]
    said = []
    if len(primary) == 1:
        [judged] = primary
        row = judged.row
        differs = "differs" if judged.is_different else "does not differ significantly"
        said.append(
            f"{row.second} {differs} from {first} in the primary figure, {row.figure} {row.unit}: "
            f"{_figures(judged)}, {row.comparison.seeds} seeds each."
        )
    elif primary:
        said.append(f"{_count(primary)} comparisons of the primary figure find a difference.")
    if secondary:
        said.append(
            f"{_count(secondary)} comparisons of secondary figures find one "
            f"(p < {SIGNIFICANT} after Holm's correction)."
        )
    return " ".join(said) or "No figure that is tested was measured; the others are described."


def _count(family: list[Judged]) -> str:
    """Return how many of the comparisons differ: "3 of 8"."""
    return f"{sum(judged.is_different for judged in family)} of {len(family)}"


# Ends a verdict of one seed in which something differs.
_CHANCE = "the same code with another seed, or in another order of sums, may differ by as much."


def _between_networks(first: str, once: list[Judged], different: list[Judged]) -> str:
    """Return the verdict on two or more networks of one seed."""
    is_one = len({judged.row.second for judged in once}) == 1
    who = "These two networks differ" if is_one else f"These networks differ from that of {first}"
    found = f"{who} by more than other items explain in {_of_figures(once, different)}"
    return f"Nothing here is evidence about the conditions. {found}" + (
        f"; {_CHANCE}" if different else "."
    )


def _between_revisions(first: str, once: list[Judged], different: list[Judged]) -> str:
    """Return the verdict on the working tree against revision `first`."""
    found = (
        f"The working tree differs from {first} by more than other items explain in "
        f"{_of_figures(once, different)}."
    )
    return found + (
        f" Where networks were trained again that may be chance: {_CHANCE}" if different else ""
    )


def _of_figures(once: list[Judged], different: list[Judged]) -> str:
    """Return how many figures differ and their kind: `2 of 21 figures, both bits per byte`."""
    number = len(different)
    if not number:
        return f"none of {len(once)} figures"
    losses = sum(not judged.row.comparison.is_answers for judged in different)
    said = f"{number} of {len(once)} figures"
    if 0 < losses < number:
        return f"{said}, {losses} of them bits per byte"
    kind = "bits per byte" if losses else "accuracies"
    if number == 1:
        return f"{said}, {kind if losses else 'an accuracy'}"
    return f"{said}, {'both' if number == 2 else 'all'} {kind}"


def limits(family: list[Judged]) -> list[str]:
    """Return the limits of the comparisons: few clusters, then detectable differences.

    With one seed they concern the figures of the last checkpoint and of the fine-tuned model, with
    several seeds the figures that are tested.
    """
    # The key lacks the step, so that a later checkpoint's row replaces an earlier one's.
    last = {
        (judged.row.model == "fine-tuned", judged.row.figure, judged.row.second): judged
        for judged in family
        if judged.row.role or judged.row.comparison.seeds == 1
    }
    found = []
    if any(judged.row.comparison.crossed is not None for judged in last.values()):
        found.append(
            "Products: all facts are asked for, so intervals and p are about other wordings; "
            "answers are clustered by fact and by form."
        )
    for judged in last.values():
        row, said = judged.row, judged.row.comparison
        if said.effective_clusters < FEW_CLUSTERS:
            found.append(
                f"{_start(row)} its items are worth {said.effective_clusters:.1f} clusters of "
                f"equal weight, fewer than {FEW_CLUSTERS}: its interval and p are rough."
            )
    found += [
        f"{_start(judged.row)} every item came out as in {judged.same_as}: "
        "the two are one comparison."
        for judged in last.values()
        if judged.same_as is not None
    ]
    return found + [_limit(judged) for judged in last.values() if judged.same_as is None]


def _difference(first: str, judged: Judged) -> str:
    row, said = judged.row, judged.row.comparison
    return (
        f"{row.model}, {row.name}: {row.second} {said.second:.4f}, {first} {said.first:.4f}, "
        f"difference {_figures(judged)}."
    )


def _figures(judged: Judged) -> str:
    """Return a difference, its interval, and its p: "+0.0120 (-0.0031 to +0.0271), p 0.118"."""
    low, high = judged.interval
    words = p_words(judged.holm_p)
    p = f", p {words}" if words else ""
    return f"{judged.row.comparison.difference:+.4f} ({low:+.4f} to {high:+.4f}){p}"


def _limit(judged: Judged) -> str:
    """Return the sentence about the smallest difference that this comparison would find."""
    row, said = judged.row, judged.row.comparison
    seeds = "one seed" if said.seeds == 1 else f"{said.seeds} seeds"
    start = f"{_start(row)} with {said.items:,} items and {seeds}, "
    if not row.has_p:
        return (
            start + "no p: two networks of one condition differ by more than other items explain."
        )
    if said.student.error == 0:
        return (
            start
            + ("no answer differs" if said.difference == 0 else "all differ alike")
            + ": nothing tells what could be seen."
        )
    if judged.detectable is None:
        return start + "no possible difference would be found reliably" + _reliably(judged)
    return (
        start
        + f"differences under {judged.detectable:.4f} cannot be seen reliably"
        + _reliably(judged)
    )


def _reliably(judged: Judged) -> str:
    number = judged.comparisons
    tested = f"corrected for {number} comparisons" if number > 1 else "tested alone"
    return f" ({POWER:.0%} power, {tested})."


def _start(row: Row) -> str:
    return f"{row.second}, {row.model}, {row.name}:"
