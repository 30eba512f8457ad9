"""Run a command in a session of its own, and end it when the process that started this one ends.

    python -I -S pipeline/driver/keeper.py COMMAND ARGUMENT…

stdin is a socket. Each byte that comes in is the number of a signal for the command's process
group; its end means that the other side has died or does not want the command any more: SIGTERM,
and SIGKILL after `GRACE` seconds. What goes out, once, is the exit status as text, a signal's
number as a negative one. stdout and stderr are the command's. A worker has one keeper for each
command, because the kernel's signal for a parent's death reaches no grandchildren.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def keep(command: list[str], line: socket.socket) -> int:
    """Run `command` until it ends; return its exit status."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    _let_go_of_output()
    kill_at = None
    while process.poll() is None:
        wait = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        listened = [woken] if kill_at is not None else [woken, line.fileno()]
        ready, _, _ = select.select(listened, [], [], wait)
        if woken in ready:
            os.read(woken, 64)
        if line.fileno() in ready:
            numbers = line.recv(64)
            for number in numbers or [signal.SIGTERM]:
                _send(process.pid, number)
            if not numbers:
                kill_at = time.monotonic() + GRACE
        if kill_at is not None and time.monotonic() >= kill_at:
            _send(process.pid, signal.SIGKILL)
            kill_at += GRACE
    if kill_at is not None:
        _send(process.pid, signal.SIGKILL)  # what the command has left in its group
    return process.returncode


def _let_go_of_output() -> None:
    # The reader of the command's terminal sees its end when the command has ended.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: all are zombies
        os.killpg(group, number)


def main() -> None:
    line = socket.socket(fileno=os.dup(0))
    status = keep(sys.argv[1:], line)
    with contextlib.suppress(OSError):  # the other side has died
        line.sendall(str(status).encode())


if __name__ == "__main__":
    main()
