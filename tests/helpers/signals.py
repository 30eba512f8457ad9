"""Set the signals of a process that a test starts, for subprocess's `preexec_fn`.

The test runner itself may ignore or block some: nohup, cron, and a shell's background job ignore
SIGINT or SIGHUP. Python and all its children keep ignoring an ignored SIGINT.
"""

import signal

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def as_in_a_terminal() -> None:
    """Handle signals like a process in a terminal."""
    _set(signal.SIG_DFL)


def as_in_the_background() -> None:
    """Ignore the signals of a terminal, but not SIGTERM, as after `nohup COMMAND &` in a script."""
    _set(signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def as_nobody_should() -> None:
    """Ignore and block all signals that end a process."""
    _set(signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _set(disposition: signal.Handlers) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    for number in ENDING:
        signal.signal(number, disposition)
