"""Refuse network sockets to this process and its children, by Linux's seccomp.

Landlock limits TCP only, and only from Linux 6.7 on. This filter refuses the system call `socket`
itself, with EACCES, for every family that leads off this machine: UDP, raw and TCP, in native code
and in child processes alike. No privilege is needed. Source of the numbers: <linux/seccomp.h>,
<linux/filter.h>, <linux/audit.h>, Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import platform
import struct
import sys

# By machine: struct seccomp_data's `arch`, the number of the call `seccomp`, that of `socket`.
_MACHINES = {"x86_64": (0xC000003E, 317, 41), "aarch64": (0xC00000B7, 277, 198)}
# AF_UNIX, and AF_NETLINK, by which programs ask the kernel about this machine.
_ALLOWED_FAMILIES = (1, 16)

# BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_LOAD, _EQUAL, _RETURN = (0x20, 0x15, 0x06)
_CALL, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_NO_NEW_PRIVS, _SET_MODE_FILTER, _SPEC_ALLOW = 38, 1, 4


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_sockets() -> bool:
    """Refuse network sockets from now on; return whether the kernel does.

    It does so on Linux, on the processors in `_MACHINES`.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    architecture, seccomp, socket = _MACHINES[platform.machine()]
    families = len(_ALLOWED_FAMILIES)
    # Each instruction: code, how many to skip if equal, how many if not, operand. In words:
    #
    #     load the architecture; if it is not this one     → allow
    #     load the call's number; if it is not `socket`    → allow
    #     load the family; if it is AF_UNIX or AF_NETLINK  → allow
    #     refuse
    #     allow
    #
    # The first test is needed because the same number is another call on another architecture.
    # A skip counts from the next instruction. With two families "refuse" is instruction 7 and
    # "allow" 8: the test at 1 skips families + 4 = 6 instructions, from 2 to 8.
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 0, families + 4, architecture),
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
    # Without _SPEC_ALLOW, kernels before 5.16 slow down every process that has a filter.
    filtered = _Program(len(program), code)
    status: int = libc.syscall(seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(filtered))
    return status == 0
