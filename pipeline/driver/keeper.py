"""Run a command in its own session, and end it when the process that started this one ends.

    python -I -S pipeline/driver/keeper.py COMMAND ARGUMENT…

stdin is a socket to the starting process:

    in:  a byte              send the signal with this number to the command's process group
    in:  end of the socket   the other side has died or cancelled: SIGTERM, after `GRACE` s SIGKILL
    out: text, once          the exit status, -N if signal N ended the command

stdout and stderr are the command's. A worker starts one keeper for each command, because the
kernel's signal at a parent's death does not reach grandchildren.
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
        _send(process.pid, signal.SIGKILL)  # processes that the command has left in its group
    return process.returncode


def _let_go_of_output() -> None:
    # Otherwise this process would keep the command's terminal open after the command has ended.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _send(group: int, number: int) -> None:
    # macOS raises PermissionError for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main() -> None:
    line = socket.socket(fileno=os.dup(0))
    status = keep(sys.argv[1:], line)
    with contextlib.suppress(OSError):  # the other side has died
        line.sendall(str(status).encode())


if __name__ == "__main__":
    main()
