"""Limit the files that this process and its children can open, by Linux's Landlock.

Landlock is reached through ctypes, in three calls:

    landlock_create_ruleset(rights)       all rights that this set of rules takes away
    landlock_add_rule(ruleset, path, …)   one file or folder, and the rights it gives back
    landlock_restrict_self(ruleset)       from now on, for this thread and its children, for good

Source of the numbers: <linux/landlock.h> and Documentation/userspace-api/landlock.rst. No privilege
is needed. Where the kernel lacks Landlock (before 5.13, other systems) `restrict` returns False.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38

_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_REFER = 1 << 13  # renames between directories, which every ruleset forbids unless it handles them
_TRUNCATE = 1 << 14
# A rule on a file, not a directory, may name only these rights.
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_TCP = 1 << 0 | 1 << 1  # bind, connect


def available() -> int:
    """Return the version of Landlock's interface; below 1 if the kernel has none."""
    return (
        ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
        if sys.platform == "linux"
        else 0
    )


def restrict(readable: Iterable[Path], writable: Iterable[Path], network: bool) -> bool:
    """Allow only reads below `readable`, reads and writes below `writable`, TCP if `network`.

    This guards contents only: directories may still be listed, and files created, renamed and
    removed. Returns whether the kernel enforces it. Refusing TCP needs Linux 6.7.
    """
    version = available()
    if version < 1:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # A kernel refuses rights that its version does not know: 2 added _REFER, 3 _TRUNCATE, 4 TCP.
    handled = (
        _READ_FILE
        | _WRITE_FILE
        | (_REFER if version >= 2 else 0)
        | (_TRUNCATE if version >= 3 else 0)
    )
    tcp = _TCP if version >= 4 and not network else 0
    attributes = struct.pack("QQ", handled, tcp) if version >= 4 else struct.pack("Q", handled)
    ruleset = _call(libc, _CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(libc, ruleset, path, _READ_FILE)
        for path in writable:
            _allow(libc, ruleset, path, handled)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        _call(libc, _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it has gone, or its mount does not answer
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        _call(
            libc, _ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0
        )
    finally:
        os.close(descriptor)


def _call(libc: ctypes.CDLL, number: int, *arguments: int | bytes | None) -> int:
    result: int = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock system call {number}")
    return result
