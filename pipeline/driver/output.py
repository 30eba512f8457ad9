"""A stage's stdout and stderr: a pseudo-terminal, so tqdm draws bars that the driver can read."""

import codecs
import fcntl
import os
import struct
import termios
import tty

from pipeline.driver.place import Progress
from pipeline.driver.printed import Printed

# tqdm cuts a bar at the terminal's width, and draws as many nested bars as the terminal has lines.
COLUMNS, LINES = 200, 50
AT_ONCE = 65_536  # bytes
IN_TURN = 1 << 20  # bytes per call of `read`, so that one stage's flood delays no other stage


class Output:
    """What a process prints: its log, and the progress that its newest bar shows."""

    def __init__(self, columns: int = COLUMNS):
        self._parent, self._child = os.openpty()
        tty.setraw(self._child)  # "\n" does not become "\r\n", and nothing is echoed
        size = struct.pack("HHHH", LINES, columns, 0, 0)
        fcntl.ioctl(self._child, termios.TIOCSWINSZ, size)
        os.set_blocking(self._parent, False)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._printed = Printed()
        self._ended = False

    @property
    def child(self) -> int:
        """The descriptor to start the process with, as its stdout and stderr."""
        if self._child < 0:
            raise ValueError("the process has started, so this descriptor is closed here")
        return self._child

    def started(self) -> None:
        """Close the process's descriptor here; otherwise `read` would see no end."""
        if self._child >= 0:
            os.close(self._child)
            self._child = -1

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._parent

    def read(self) -> bool:
        """Read what was printed since the last call, without waiting, up to one mebibyte.

        Returns False once all is read and every process has closed the terminal. After a process
        has ended, call it once more: a child may keep the terminal open, so False may never come.
        """
        taken = 0
        while not self._ended and taken < IN_TURN:
            try:
                content = os.read(self._parent, AT_ONCE)
            except BlockingIOError:
                break
            except OSError:  # Linux reports the end of a pseudo-terminal as EIO
                content = b""
            self._ended = not content
            taken += len(content)
            self._printed.add(self._decoder.decode(content, final=self._ended))
        return not self._ended

    @property
    def progress(self) -> Progress | None:
        """The last state of the newest progress bar; of nested bars, the outermost."""
        return self._printed.progress

    @property
    def log(self) -> str:
        """What was printed, without progress bars, text that `\\r` replaced, or control sequences.

        It ends in a newline unless it is empty. A line replaces the middle of a huge log, and says
        how many characters are left out.
        """
        return self._printed.log

    def close(self) -> None:
        """Close the terminal; a process that still writes to it gets an error."""
        self.started()
        if self._parent >= 0:
            os.close(self._parent)
            self._parent, self._ended = -1, True
