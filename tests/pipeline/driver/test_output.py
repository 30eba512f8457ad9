"""The log and the progress of a process that prints to the driver's pseudo-terminal."""

import io
import os
import select
import subprocess
import sys
import textwrap
import time

import pytest
from tqdm import tqdm

from pipeline.driver import printed
from pipeline.driver.bars import read_bar
from pipeline.driver.output import Output
from pipeline.driver.place import Progress
from pipeline.driver.printed import Printed


def start(program: str, output: Output) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output.child, stderr=output.child
    )
    output.started()
    return process


def read_all(output: Output) -> list[Progress]:
    """Read to the end; return every progress that was seen."""
    seen = []
    while True:
        select.select([output], [], [], 10)
        going_on = output.read()
        if output.progress and output.progress not in seen:
            seen.append(output.progress)
        if not going_on:
            return seen


def run(program: str, columns: int = 120) -> tuple[str, list[Progress]]:
    output = Output(columns)
    try:
        with start(program, output) as process:
            seen = read_all(output)
        assert process.returncode == 0, output.log
        return output.log, seen
    finally:
        output.close()


def log_of(*texts: str) -> str:
    lines = Printed()
    for text in texts:
        lines.add(text)
    return lines.log


def progress_of(*texts: str) -> Progress | None:
    lines = Printed()
    for text in texts:
        lines.add(text)
    return lines.progress


def test_stage_prints_to_a_raw_terminal_of_the_given_width():
    log, _ = run(
        """
        import os, sys, termios
        assert sys.stdout.isatty() and sys.stderr.isatty() and not sys.stdin.isatty()
        modes = termios.tcgetattr(1)
        assert not modes[1] & termios.OPOST and not modes[3] & (termios.ECHO | termios.ISIG)
        print(os.get_terminal_size().columns)
        print("to stderr", file=sys.stderr)
        """,
        columns=77,
    )
    assert log == "77\nto stderr\n"


def test_bar_with_total_label_unit_and_postfix_of_real_tqdm():
    log, seen = run(
        """
        import time
        from tqdm import tqdm
        print("before")
        with tqdm(total=3, desc="pretrain baseline", unit="step", mininterval=0) as bar:
            for step in range(3):
                time.sleep(0.02)
                bar.set_postfix_str(f"loss {5 - step}.000, 2,000 tokens/s", refresh=False)
                bar.update()
        print("pretrain: loss 3.000")
        """
    )
    assert log == "before\npretrain: loss 3.000\n"
    assert {(bar.label, bar.total, bar.unit) for bar in seen} == {("pretrain baseline", 3, "step")}
    assert seen[-1] == Progress(
        "pretrain baseline", 3, 3, "step", "loss 3.000, 2,000 tokens/s", 0.0
    )


def test_bars_of_real_tqdm_without_total_or_label():
    log, _ = run(
        """
        from tqdm import tqdm
        for _ in tqdm(iter(range(5)), unit="doc", mininterval=0): pass
        for _ in tqdm(range(2), mininterval=0, ascii=True, colour="green"): pass
        for _ in tqdm(range(2), desc="cleared", mininterval=0, leave=False): pass
        print("end")
        """
    )
    assert log == "end\n"


def test_no_nested_bar_is_in_the_log():
    log, seen = run(
        """
        import time
        from tqdm import tqdm
        for epoch in tqdm(range(3), desc="epochs", mininterval=0):
            for step in tqdm(range(4), desc="steps", leave=epoch == 1, mininterval=0):
                time.sleep(0.01)
            tqdm.write(f"epoch {epoch} ends")
        print("end")
        """
    )
    assert log == "epoch 0 ends\nepoch 1 ends\nepoch 2 ends\nend\n"
    assert seen[-1].label == "epochs"
    assert seen[-1].done == 3


def test_of_nested_bars_the_outer_one_counts():
    bars = io.StringIO()
    lines = Printed()
    with tqdm(total=2, desc="outer", file=bars, mininterval=0) as outer:
        for step in tqdm(range(3), desc="inner", file=bars, mininterval=0):
            outer.set_postfix_str(str(step))
            lines.add(bars.getvalue())
            bars.seek(0)
            bars.truncate()
            assert lines.progress is not None
            assert (lines.progress.label, lines.progress.said) == ("outer", str(step))
    lines.add(bars.getvalue())
    assert lines.log == ""


def test_bar_of_transformers_and_of_a_download():
    log, seen = run(
        """
        import os
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"
        from huggingface_hub.utils import tqdm as of_hub
        from transformers.utils import logging
        for _ in logging.tqdm(range(2), desc="Loading weights"): pass
        with of_hub(
            total=4_000_000, desc="model.safetensors", unit="B", unit_scale=True, mininterval=0,
        ) as bar:
            bar.update(1_500_000)
        """
    )
    assert log == ""
    shown = seen[-1]._replace(seconds_left=None)
    assert shown == Progress("model.safetensors", 1_500_000, 4_000_000, "B", "", None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "desc:  45%|███| 1440/3200 [00:40<00:50, 32.10step/s, loss 4.123]",
            Progress("desc", 1440, 3200, "step", "loss 4.123", 50.0),
        ),
        ("a: b: 45% 1/2 [00:40<00:50,  1.44s/step]", Progress("a: b", 1, 2, "step", "", 50.0)),
        ("  0%|          | 0/10 [00:00<?, ?it/s]", Progress("", 0, 10, "it", "", None)),
        ("x: 0step [00:00, ?step/s]", Progress("x", 0, None, "step", "", None)),
        ("7it [1:02:03,  1.00it/s, a=[1, 2]]", Progress("", 7, None, "it", "a=[1, 2]", None)),
        (
            " 50%|█| 1/2 [00:01<1:02:03, 0.01it/s]",
            Progress("", 1, 2, "it", "", 3723.0),
        ),
        (
            "Map: 10%|█| 1.50k/15.0k [00:01<00:09, 1.50k examples/s]",
            Progress("Map", 1500, 15_000, "examples", "", 9.0),
        ),
        ("d: 1.20MB [00:01, 1.20MB/s]", Progress("d", 1_200_000, None, "B", "", None)),
        ("d: 12Token [00:01, 12.00Token/s]", Progress("d", 12, None, "Token", "", None)),
        ("d: 3/? [00:01<?, 3.00it/s]", Progress("d", 3, None, "it", "", None)),
        ("d: 9%|█| 9/99 [00:09<-00:01, 1.00it/s]", Progress("d", 9, 99, "it", "", 0.0)),
    ],
)
def test_bar_is_read(line, expected):
    assert read_bar(line) == (expected, "")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "3/4 of it",
        "took 5 [00:40, and more]",
        "12:03:04 INFO took 5 [00:40, 1it/s]",
        "desc:  45%|███| 1440/3200 [00:40<00:50, 32.",  # the rest is still to come
        "x" * 3000 + ": 7it [00:03, 1.00it/s]",
    ],
)
def test_other_text_is_no_bar_and_stays_in_the_log(line):
    assert read_bar(line) is None
    assert log_of(line + "\nend\n") == line + "\nend\n"


def test_text_printed_behind_an_open_bar_is_kept():
    assert log_of("\rx: 7it [00:03, 1.00it/s]hello [1]\n") == "hello [1]\n"
    assert log_of("\r 50%|█| 1/2 [00:01<00:01, 1.00it/s]   warning: x\nend") == "warning: x\nend\n"


def test_progress_of_a_bar_that_was_cleared_is_not_that_of_an_older_one():
    older = "old: 100%|█| 2/2 [00:00<00:00, 9.00it/s]"
    newer = "new:  50%|█| 1/2 [00:00<00:00, 9.00it/s]"
    shown = progress_of(f"\r{older}\n", f"\r{newer}", f"\r{' ' * 50}\r")
    assert shown is not None
    assert shown.label == "new"


def test_bar_that_begins_and_ends_in_one_text_is_seen():
    shown = progress_of("a\nb\n\rx: 100%|█| 2/2 [00:00<00:00, 9.00it/s]\nc\n")
    assert shown is not None
    assert shown.label == "x"


def test_carriage_returns_replace_a_line_and_windows_line_ends_do_not():
    assert log_of("a 10%\ra 20%\rdone\nx\r\n\r\ry\n\r") == "done\nx\ny\n"
    assert log_of("long text\r", "\x1b[Kshort\n", "gone\x1b[2K\rnext") == "short\nnext\n"
    assert log_of("spin |\b/\b-\bok\n") == "spin ok\n"


def test_control_sequences_are_removed_wherever_reads_cut_them():
    text = "\x1b[1;31merror:\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x1b(Bend\tx\x07\x00\n"
    expected = "error: link end\tx\n"
    assert log_of(text) == expected
    for cut in range(len(text)):
        assert log_of(text[:cut], text[cut:]) == expected


def test_unended_control_sequence_hides_no_more_than_its_limit():
    assert log_of("\x1b]" + "x" * 10_000, "\nend\n").endswith("end\n")
    assert log_of("a\x1b", "") == "a\n"
    assert log_of("a\x1b[\nb") == "a[\nb\n"


def test_cursor_that_moves_too_far_stays_within_the_lines():
    assert log_of("a\nb\x1b[99A\x1b[2Kc\x1b[99999999Bd\n") == "c\nbd\n"


def test_invalid_and_split_utf8_is_decoded():
    output = Output()
    with start(
        r"""
        import os, time
        for part in (b"\xe2\x96", b"\x88 \xff\xfe ", b"\xf0\x9f", b"end \xe2"):
            os.write(1, part)
            time.sleep(0.05)
        """,
        output,
    ):
        read_all(output)
    output.close()
    assert output.log == "█ \ufffd\ufffd \ufffdend \ufffd\n"


def test_huge_log_keeps_its_first_and_last_lines_and_says_what_is_missing():
    lines = [f"line {number} " + "x" * 60 for number in range(40_000)]
    text = "\n".join(lines) + "\n"
    kept = log_of(*(text[at : at + 9999] for at in range(0, len(text), 9999)))
    first, _, rest = kept.partition("\n[")
    missing, _, last = rest.partition(" characters left out]\n")
    assert text.startswith(first)
    assert len(first) > printed.FIRST - 100
    assert text.endswith("\n" + last)
    assert printed.LAST - 100 < len(last) <= printed.LAST
    assert int(missing.replace(",", "")) == len(text) - printed.FIRST - len(last)


def test_line_without_end_is_kept_within_bounds():
    lines = Printed()
    for number in range(1000):
        lines.add(f"{number:04}" + "x" * 9996)
    lines.add("the end")
    assert lines.log.startswith("0000xxx")
    assert lines.log.endswith("xxxthe end\n")
    assert len(lines.log) < printed.FIRST + printed.LAST + 100


def test_megabytes_a_second_are_read_without_waiting_in_bounded_memory():
    output = Output()
    began = time.process_time()
    with start(
        """
        import sys
        from tqdm import tqdm
        for number in range(20):
            sys.stdout.write("a line of some text\\n" * 25_000)
            sys.stdout.write("\\rbar: 5%|#   | 1/20 [00:00<00:01, 9.00it/s]" * 5_000)
        """,
        output,
    ) as process:
        read_all(output)
    spent = time.process_time() - began
    output.close()
    assert process.returncode == 0
    assert "characters left out" in output.log
    assert len(output.log) < printed.FIRST + printed.LAST + 100
    assert spent < 10, f"{spent:.1f} s of processor time for 14 MB"


def test_read_does_not_wait_and_ends_when_all_have_closed_the_terminal():
    output = Output()
    with start("import time; print('said', flush=True); time.sleep(1)", output):
        assert select.select([output], [], [], 10)[0]
        assert output.read()
        began = time.monotonic()
        assert output.read()
        assert time.monotonic() - began < 0.1
        read_all(output)
    assert output.log == "said\n"
    assert not output.read()
    output.close()


def test_what_an_ended_process_left_is_read_though_a_child_of_it_holds_the_terminal():
    output = Output()
    with start(
        "import subprocess; print(subprocess.Popen(['sleep', '5']).pid, flush=True)", output
    ) as process:
        process.wait()
        assert select.select([output], [], [], 10)[0]
        assert output.read()
        assert output.log.strip().isdecimal()
        os.kill(int(output.log), 9)
    output.close()


def test_descriptors_are_closed_once():
    output = Output()
    child, parent = output.child, output.fileno()
    output.started()
    output.started()
    with pytest.raises(ValueError, match="has started"):
        _ = output.child
    output.close()
    output.close()
    for descriptor in (child, parent):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
