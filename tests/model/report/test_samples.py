"""The report's section of samples: white space is seen, and the table fits the conditions."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from repository import REPOSITORY

from common.errors import PipelineError
from common.files import checksummed_directory
from model.post_training.sample_files import Sample, write_samples
from model.report.samples import Piece, Samples, sampled, shown_answer, visible

STEPS = [10, 2000]
PROMPTS = ["6 × 9 =", "A\n"]


def text(shown: str) -> Piece:
    return Piece("text", shown)


def mark(shown: str) -> Piece:
    return Piece("mark", shown)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", []),
        ("plain text", [text("plain text")]),
        (" 54", [mark("␣"), text("54")]),
        ("a  b", [text("a"), mark("␣␣"), text("b")]),
        ("a \n", [text("a"), mark("␣↵")]),
        ("a\tb", [text("a"), mark("⇥"), text("b")]),
        ("a\u00a0b", [text("a"), mark("\\xa0"), text("b")]),
        ("\x1b[2J\r", [mark("\\x1b"), text("[2J"), mark("\\r")]),
        ("\u202eabc\u200b", [mark("\\u202e"), text("abc"), mark("\\u200b")]),
        ("6 × 9 é 😀", [text("6 × 9 é 😀")]),
        ("a\ufffd", [text("a\ufffd")]),
        # Younger than Unicode 14: only some Pythons know it.
        ("\U0001fae8", [mark("\\U0001fae8")]),
    ],
    ids=ascii,
)
def test_white_space_and_what_draws_nothing_are_marks(written, shown):
    assert visible(written) == shown


def test_a_space_beside_a_fact_token_is_no_mark():
    answer = [" is ", [6, 9], " and ", None, " "]
    sample = Sample(prompt="", answer=answer, prompt_tokens=1, new_tokens=7, ended="cut")
    assert shown_answer(sample) == [
        mark("␣"),
        text("is "),
        Piece("fact", "6 × 9 = 54"),
        text(" and "),
        mark("⟨no text⟩"),
        mark("␣"),
        mark("…"),
    ]


def write(folder: Path, condition: str, answer: str) -> None:
    for step in STEPS:
        with checksummed_directory(folder / condition / f"seed_1/step_{step}") as output:
            write_samples(
                output,
                [
                    Sample(
                        prompt=prompt,
                        answer=[f"{answer} at {step}", [6, 9], None],
                        prompt_tokens=4,
                        new_tokens=5,
                        ended="cut" if step == STEPS[0] else "stopped",
                    )
                    for prompt in PROMPTS
                ],
            )


def page(samples: Samples, seeds: int = 1) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPOSITORY / "model/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    report = SimpleNamespace(samples=samples, seeds=list(range(seeds)))
    return environment.get_template("samples.html").render(report=report)


def cells(html: str) -> list[str]:
    return [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", html)]


def test_two_conditions_are_columns_and_every_answer_is_there_once(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, name, name)
    samples = sampled(tmp_path, ["a", "b"], 1, STEPS, PROMPTS, {})
    html = page(samples, seeds=3)
    assert html.count("<summary>") == len(PROMPTS)
    assert html.count("6 × 9 =</summary>") == 1
    assert 'A<span class="mark">↵</span></summary>' in html
    rows = [f"{name} at {step}6 × 9 = 54⟨no text⟩{end}"
            for step, end in zip(STEPS, ("…", "⟨end of text⟩"), strict=True)
            for name in "ab"]  # fmt: skip
    assert cells(html) == rows * len(PROMPTS)
    assert '<th scope="row">2,000</th>' in html
    assert '<th scope="col">b</th>' in html
    assert "Seed 1, the first of 3." in html


def test_more_conditions_are_rows(tmp_path):
    names = [f"condition_{number}" for number in range(5)]
    for name in names:
        write(tmp_path, name, name)
    html = page(sampled(tmp_path, names, 1, STEPS, PROMPTS, {}))
    for step in ("10", "2,000"):
        assert html.count(f'<th scope="row">{step}, condition_4</th>') == len(PROMPTS)
    assert len(cells(html)) == 5 * len(STEPS) * len(PROMPTS)


def test_a_condition_with_the_same_network_is_named_and_not_shown_twice(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, name, "same")
    write(tmp_path, "c", "other")
    samples = sampled(tmp_path, ["a", "b", "c"], 1, STEPS, PROMPTS, {"b": "a", "c": "a"})
    assert samples.conditions == ["a", "c"], "c says something else, whatever it should"
    assert "b is pretrained as a is, and gives the same text." in page(samples)


def test_without_prompts_the_page_says_that_nothing_was_sampled(tmp_path):
    folder = tmp_path / "a/seed_1/step_10"
    with checksummed_directory(folder) as output:
        write_samples(output, [])
    html = page(sampled(tmp_path, ["a"], 1, [10], [], {}))
    assert "Nothing was sampled" in html
    assert "<table" not in html


def test_samples_of_other_prompts_are_refused(tmp_path):
    write(tmp_path, "a", "a")
    with pytest.raises(PipelineError, match=r"step_10: not the samples of params\.yaml's prompts"):
        sampled(tmp_path, ["a"], 1, STEPS, PROMPTS[::-1], {})
    shutil.rmtree(tmp_path / "a/seed_1/step_2000")
    with pytest.raises(PipelineError, match=r"step_2000/SHA256SUMS: missing"):
        sampled(tmp_path, ["a"], 1, STEPS, PROMPTS, {})
