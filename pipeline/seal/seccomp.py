"""Refuse sockets that lead off this machine to this process and its children: Linux's seccomp.

Landlock knows TCP alone, and from Linux 6.7 on. Here the system call `socket` itself is refused, as
without permission, for every family but a machine's own: UDP, raw and TCP sockets of native code
and of child processes alike. No privilege is needed. Source of the numbers: <linux/seccomp.h>,
<linux/filter.h>, <linux/audit.h>, Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import platform
import struct
import sys

# By machine: the value of struct seccomp_data's `arch`, and the numbers of the calls `seccomp` and
# `socket`.
_MACHINES = {"x86_64": (0xC000003E, 317, 41), "aarch64": (0xC00000B7, 277, 198)}
_ALLOWED_FAMILIES = (
    1,
    16,
)  # AF_UNIX; AF_NETLINK, by which programs ask the kernel about this machine

_LOAD, _EQUAL, _RETURN = (
    0x20,
    0x15,
    0x06,
)  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_CALL, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_NO_NEW_PRIVS, _SET_MODE_FILTER, _SPEC_ALLOW = 38, 1, 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_sockets() -> bool:
    """Refuse them from now on; return whether the kernel does, which needs Linux on one of
    `_MACHINES`.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    architecture, seccomp, socket = _MACHINES[platform.machine()]
    families = len(_ALLOWED_FAMILIES)
    # Each instruction: code, how many to skip where equal, how many where not, operand.
    program = [
        (_LOAD, 0, 0, _ARCH),
        (
            _EQUAL,
            0,
            families + 4,
            architecture,
        ),  # a call of another architecture is another's number
        (_LOAD, 0, 0, _CALL),
        (_EQUAL, 0, families + 2, socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *((_EQUAL, families - place, 0, family) for place, family in enumerate(_ALLOWED_FAMILIES)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    # Without _SPEC_ALLOW kernels before 5.16 slow every such process down.
    filtered = _Program(len(program), code)
    status: int = libc.syscall(seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(filtered))
    return status == 0
