"""How a test starts what it sends signals to: a runner of tests may have been started with some of
them ignored or blocked.

Given to subprocess as `preexec_fn`. Python keeps an ignored SIGINT ignored, and so do all its
children: nohup, cron, and a shell that puts a command into the background have it so.
"""

import signal

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def as_in_a_terminal() -> None:
    """Answer signals as a process of a terminal does."""
    _set(signal.SIG_DFL)


def as_in_the_background() -> None:
    """Ignore what ends a process of a terminal, but for SIGTERM, as after `nohup COMMAND &` in a
    script.
    """
    _set(signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def as_nobody_should() -> None:
    """Ignore and block all that ends a process."""
    _set(signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _set(disposition: signal.Handlers) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    for number in ENDING:
        signal.signal(number, disposition)
