"""python -m tools.ask in a terminal: a conversation with Ctrl-C and Ctrl-D, and its kernels."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from gpt2_directories import save_gpt2
from repository import REPOSITORY
from signals import as_in_a_terminal

from model.post_training.chat_template import write_chat_tokenizer

pytestmark = pytest.mark.slow("each run of the command imports torch and transformers", minutes=1)


class Terminal:
    """A process whose terminal this is."""

    def __init__(self, *command: str):
        self._end, other = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=other,
            stdout=other,
            stderr=other,
            preexec_fn=lambda: (as_in_a_terminal(), os.login_tty(other)),
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(other)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        """Return what was said up to `pattern`; it is said no longer afterwards."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < end, self.said
            if select.select([self._end], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self._end, 4096).decode(errors="replace")
                except OSError:  # the process has ended
                    assert re.search(pattern, self.said), self.said
        before, self.said = self.said[: found.end()], self.said[found.end() :]
        return before


def test_a_conversation_ends_with_ctrl_d_and_only_its_answer_with_ctrl_c(tmp_path, tokenizer):
    directory = save_gpt2(tmp_path, tokenizer, layers=4, heads=4, width=128, context=4096)
    write_chat_tokenizer(directory)
    terminal = Terminal(
        sys.executable, "-m", "tools.ask", str(directory), "--tokens", "3500", "--kernels", "native"
    )
    with terminal.process:
        try:
            terminal.wait_for(r"> ")
            terminal.type("one")
            terminal.wait_for("one")
            # A signal just before readline waits would be seen only with the next key.
            time.sleep(1)
            terminal.type("\x03")  # away with the line
            terminal.wait_for(r"\n> ")
            terminal.type("one\n")
            terminal.wait_for(r"one\r?\n(?s:.{20})")
            terminal.type("\x03")
            terminal.wait_for(r"\n> ")
            terminal.type("two\n")
            terminal.wait_for(r"two\r?\n(?s:.{20})")
            terminal.type("\x03")
            terminal.wait_for(r"\n> ")
            terminal.type("\x04")
            assert terminal.process.wait(120) == 0
        finally:
            terminal.process.kill()


def test_the_command_answers_with_portable_kernels_and_a_reader_may_stop_early(tmp_path, tokenizer):
    directory = save_gpt2(tmp_path, tokenizer, layers=1, heads=1, width=16, context=64)
    command = (
        f"{sys.executable} -m tools.ask {directory} a b c d | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, text=True, capture_output=True)
    assert re.fullmatch(r"> a\n(0|141)\n", done.stdout)
    assert "Traceback" not in done.stderr
