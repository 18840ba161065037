"""Takes away from this process what reading an upload does not need.

Each step works without privileges; where the system does not know it (Landlock: Linux 5.13, seccomp: x86-64 and arm64)
it is left out, and the checks of the formats and GDAL's reduced set of drivers stand alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CLONE_NEWNET = 0x40000000
_OPEN_FILES = 256

# Landlock: landlock_create_ruleset, landlock_add_rule, landlock_restrict_self, alike on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
# What each version of Landlock added: moves between folders in the second, truncating in the third.
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}

# (AUDIT_ARCH, syscalls): socket, socketpair, connect, execve, execveat, ptrace, process_vm_readv, process_vm_writev,
# io_uring_setup, pidfd_getfd.
_SYSCALLS = {
    "x86_64": (0xC000003E, (41, 53, 42, 59, 322, 101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, (198, 199, 203, 221, 281, 117, 270, 271, 425, 438)),
}
_FILTER = 2
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_EACCES, _ALLOW, _ERRNO = 13, 0x7FFF0000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06


def limit(*, parent: int, memory_bytes: int, file_bytes: int, seconds: float) -> None:
    """Bounds what the process may use, cuts it off from the network if it may, and ends it with its parent."""
    processor_s = int(seconds * (os.cpu_count() or 1)) + 1
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, processor_s),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))
    if sys.platform == "linux":
        libc = _libc()
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent process ended before its worker started")
        # Refused to most accounts but root; the seccomp filter then stands alone.
        libc.unshare(_CLONE_NEWNET)


def confine(*, readable: Iterable[Path], writable: Path) -> dict[str, bool]:
    """Leaves only these files and folders to be read and one folder to be written, and no socket or new program.

    Says which of the two parts the system carries out. Not to be undone, and holds for threads started later.
    """
    if sys.platform != "linux":
        return {"files": False, "network": False}
    libc = _libc()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return {"files": _only_files(libc, readable, writable), "network": _without_sockets(libc)}


def _only_files(libc: ctypes.CDLL, readable: Iterable[Path], writable: Path) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return False
    handled = _HANDLED[min(version, 3)]
    attributes = struct.pack("=Q", handled)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if ruleset < 0:
        return False
    for path in readable:
        _allow(libc, ruleset, path, _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE)
    # All of it but running programs from there.
    _allow(libc, ruleset, writable, handled & ~_EXECUTE)
    done = libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)) == 0
    os.close(ruleset)
    return bool(done)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    if not path.exists():
        return
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access, opened)
        if libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0)) != 0:
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
    finally:
        os.close(opened)


def _without_sockets(libc: ctypes.CDLL) -> bool:
    known = _SYSCALLS.get(platform.machine())
    if known is None or sys.maxsize < 2**32:
        return False
    architecture, denied = known
    count = len(denied)
    refuse = _instruction(_RETURN, 0, 0, _ERRNO | _EACCES)
    program = [
        _instruction(_LOAD, 0, 0, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, 1, 0, architecture),
        refuse,
        _instruction(_LOAD, 0, 0, _NUMBER_AT),
        # The x32 variants of x86-64's calls have numbers of their own.
        _instruction(_JUMP_AT_LEAST, count + 1, 0, 0x40000000),
        *(_instruction(_JUMP_EQUAL, count - place, 0, number) for place, number in enumerate(denied)),
        _instruction(_RETURN, 0, 0, _ALLOW),
        refuse,
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    filter_program = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER, filter_program, 0, 0) == 0)


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
