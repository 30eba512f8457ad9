"""HellaSwag items that are hard to score: no context, long endings, ties, Unicode."""

from model.data.items import Item
from model.tasks.wordings import WORDINGS

REFERENCE, LM_EVAL = WORDINGS["reference"], WORDINGS["lm_eval"]


def item(
    ctx: str,
    endings: list[str],
    number: int = 0,
    label: int = 0,
    ctx_b: str = "",
    activity: str = "Walking",
) -> Item:
    whole, source = f"{ctx} {ctx_b}" if ctx_b else ctx, f"s{number}"
    return Item(
        ind=number,
        activity_label=activity,
        ctx_a=ctx,
        ctx_b=ctx_b,
        ctx=whole,
        endings=endings,
        label=label,
        source_id=source,
    )


ITEMS = [
    item("A man", ["runs fast", "runs slowly", "runs", "jumps over the fence"], 0, ctx_b="he"),
    item("The water is", ["cold.", "hot!", "naïve 🎉", "x"], 1, label=3),
    item("", ["Starts here", "and there", "b", "c c c"], 2, label=2),
    item("word " * 40, ["one two", "three", "four five six", "seven"], 3, label=1),
    item("short", ["long " * 40, "b", "c", "d"], 4),
    item(
        "[header] How to [title] walk [step] Ends in spaces.  ",
        ["[substeps] it", "is", "so  so", "ok [title] then"],
        5,
    ),
    item("6 × 9 is <|endoftext|> and", ["<MUL_6_9_54>", "<|endoftext|>", "54", "a"], 6),
    item("a", ["b", "c", "d", "e"], 7),
]
