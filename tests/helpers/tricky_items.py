"""Items that are hard to score: no context, long endings, ties, Unicode, few and many endings."""

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
    Item(ind=8, ctx="Question: Is it?\nAnswer:", endings=["yes", "no"], label=1, source_id="s8"),
    Item(ind=9, ctx="The word is ", endings=[*"abcde", " f"], label=5, source_id="s9"),
    # As in WinoGrande: each ending has its own context, and one context is cut.
    Item(
        ind=10,
        ctx="Ann saw that ",
        options=["Bo", "the tall baker " * 20, "Cy "],
        endings=["was late."] * 3,
        label=2,
        source_id="s10",
    ),
    Item(ind=11, ctx="", options=["He", ""], endings=["sat.", "sat."], label=0, source_id="s11"),
]
