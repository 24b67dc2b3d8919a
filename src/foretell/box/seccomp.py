"""Seccomp: which system calls a process may make. A filter that refuses what inference never needs.

No new sockets, no new processes and programs, no looking into other processes, no signals to them, no
changing of modes, owners and attributes of files, no calls that this list does not know yet. Threads,
memory, and reading and writing what is already open go on as before. Numbers are those of the kernel's
`asm/unistd.h`; the filter is classic BPF as in `linux/filter.h` and `linux/seccomp.h`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from foretell.box.kernel import NO_NEW_PRIVS, NotHere, machine, prctl, syscall

__all__ = ["deny"]

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_FIRST_UNKNOWN = 470
"""Calls from this number on came after the list; the x32 calls of x86_64 lie far above it too."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_CLONE_THREAD = 0x00010000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_NETWORK = {"socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201)}
_PROCESSES = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "process_madvise": (440, 440),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
}  # fmt: skip
_ATTRIBUTES = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "file_setattr": (469, 469),
}  # fmt: skip
_KERNEL = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467), "open_by_handle_at": (304, 265), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224), "acct": (163, 89), "quotactl": (179, 60), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)
_KILL_CALL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)


def deny() -> None:
    """Put the filter in force for all threads of this process, for good.

    Raises:
        NotHere: The kernel does not offer it.
    """
    name = machine()
    code = _program(name)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    try:
        prctl(NO_NEW_PRIVS, 1)
        behind = syscall(_SECCOMP[name], 1, 1, ctypes.c_char_p(program))  # SET_MODE_FILTER, FLAG_TSYNC
    except OSError as e:
        raise NotHere(f"seccomp refused ({e.strerror})") from e
    if behind:
        raise NotHere(f"seccomp refused (thread {behind} has a filter of its own)")


def _program(name: str) -> bytes:
    """Return the filter. The accumulator holds the number of the call between two rules."""
    which = 0 if name == "x86_64" else 1
    denied = {**_NETWORK, **_PROCESSES, **_ATTRIBUTES, **_KERNEL}
    numbers = [n for n in (pair[which] for pair in denied.values()) if n is not None]
    own = os.getpid()
    code = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _AUDIT_ARCH[name]), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _FIRST_UNKNOWN), (_RETURN, 0, 0, _ENOSYS),
    ]  # fmt: skip
    for number in numbers:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    # glibc takes ENOSYS for "an old kernel" and starts its thread with clone, whose flags a filter can read.
    code += [(_EQUAL, 0, 1, _CLONE3[which]), (_RETURN, 0, 0, _ENOSYS)]
    code += _only_if(_CLONE[which], 0, (_ANY_BIT, _CLONE_THREAD))
    code += _only_if(_KILL_CALL[which], 0, (_EQUAL, own)) + _only_if(_TGKILL[which], 0, (_EQUAL, own))
    code += _only_if(_PRLIMIT[which], 0, (_EQUAL, 0), (_EQUAL, own))
    # Both put keystrokes into the terminal of whoever started us.
    code += _unless(_IOCTL[which], 1, _TIOCSTI, _TIOCLINUX)
    code += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def _only_if(number: int, argument: int, *tests: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return rules that allow a call only if the low half of an argument passes one of the tests."""
    code = [(_EQUAL, 0, 3 + len(tests), number), (_LOAD, 0, 0, 16 + 8 * argument)]
    for i, (test, value) in enumerate(tests):
        code.append((test, len(tests) - i, 0, value))
    return [*code, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]


def _unless(number: int, argument: int, *values: int) -> list[tuple[int, int, int, int]]:
    """Return rules that refuse a call if the low half of an argument is one of the values."""
    code = [(_EQUAL, 0, 3 + len(values), number), (_LOAD, 0, 0, 16 + 8 * argument)]
    for i, value in enumerate(values):
        code.append((_EQUAL, len(values) - i, 0, value))
    return [*code, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)]
