"""A launcher that gives up its rights and then becomes ffmpeg. Runs as a script, and imports nothing of ours.

    python -I -S sandbox.py RULES COMMAND...

RULES is JSON: ``parent`` (process id), ``address_bytes``, ``cpu_s``, ``read`` (paths that may be read) and
``run`` (paths that may be read and executed). The command can write to the pipes it inherits and to nothing
else: the file-size limit is zero everywhere, on Linux it can make no socket (seccomp, x86-64 and ARM64), and
where the kernel has Landlock (5.13 and later) it opens no other file and signals no other process (6.12).
What the kernel or a container refuses is left out, and said in a line of its own before anything else.

Constants are those of the kernel's headers ``linux/landlock.h``, ``prctl.h``, ``seccomp.h``, ``audit.h`` and
``bpf_common.h``; the system calls of Landlock have the same numbers on every architecture but alpha.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Sequence

REFUSED = 126  # exit status when the command could not be started, as a shell has it
MARK = "sandbox: "  # begins the line on stderr that says why
LACKS = "sandbox lacks: "  # begins the line on stderr that says what is left out

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # file access rights that each version knows
_NET_BITS = 0b11  # bind and connect TCP, version 4 and later
_SCOPE_BITS = 0b11  # abstract sockets and signals, version 6 and later
_OPEN_FILES = 64

_PR_SET_SECCOMP, _FILTER = 22, 2
_ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # for audit, number of socket()
_IO_URING_SETUP = 425  # could make sockets as well
_X32_BIT = 0x40000000  # marks the calls of another binary interface of x86-64
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of classic BPF
_KILL, _FAIL, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def landlock_abi() -> int:
    """Version of Landlock that the running kernel offers; 0 when it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    answer = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, int(answer))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def _confine(read: Sequence[str], run: Sequence[str]) -> None:
    """Restrict this process, and what it becomes, to the paths given.

    Raises: OSError where the kernel has no Landlock, or may not use it.
    """
    abi = landlock_abi()
    if abi == 0:
        raise OSError(errno.ENOSYS, "no Landlock")
    libc = _libc()
    handled = (1 << _ACCESS_BITS.get(abi, 16)) - 1
    attributes = struct.pack("=QQQ", handled, _NET_BITS if abi >= 4 else 0, _SCOPE_BITS if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _checked(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)))
    for paths, rights in ((read, _READ_FILE), (run, _READ_FILE | _READ_DIR | _EXECUTE)):
        for path in paths:
            try:
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # not every system has every library folder
            # The kernel refuses folder rights on a file.
            beneath = struct.pack("=Qi", rights if os.path.isdir(path) else rights & ~_READ_DIR, handle)
            _checked(libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, beneath, ctypes.c_uint32(0)))
            os.close(handle)
    _checked(libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)))
    os.close(rules)


def _forbid_sockets() -> None:
    """No system call of this process, and of what it becomes, makes a socket.

    Raises: OSError on other machines, and where the kernel has no seccomp or may not use it.
    """
    if os.uname().machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, "no filter for this machine")
    architecture, socket_number = _ARCHITECTURES[os.uname().machine]
    steps = (  # instruction, steps to skip where it holds and where not, operand
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_AT_LEAST, 2, 0, _X32_BIT),
        (_EQUAL, 1, 0, socket_number),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _FAIL | errno.EACCES),
        (_RETURN, 0, 0, _ALLOW),
    )
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    handed = struct.pack("HP", len(steps), ctypes.addressof(program))
    _checked(_libc().prctl(_PR_SET_SECCOMP, _FILTER, ctypes.c_char_p(handed), 0, 0))


def _die_with(parent: int) -> None:
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:  # it died before the line above took hold
        raise ProcessLookupError("its parent has gone")


def _gain_no_rights() -> None:
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    # Soft equals hard: ffmpeg would take the soft CPU limit's signal for a polite request to finish.
    resource.setrlimit(limit, (value, value))


def main(arguments: Sequence[str]) -> None:
    """Give up rights as ``arguments[0]`` says and become ``arguments[1:]``. Returns only by raising."""
    rules, command = json.loads(arguments[0]), list(arguments[1:])
    lacks = []

    def attempt(what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except ProcessLookupError:
            raise
        except OSError:  # EPERM, EACCES in a container; EINVAL, ENOSYS in a kernel that has none
            lacks.append(what)

    linux = sys.platform.startswith("linux")
    if linux:
        attempt("an end with its parent (prctl)", lambda: _die_with(rules["parent"]))
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_CPU, rules["cpu_s"])
    if linux:
        attempt("no new rights (prctl)", _gain_no_rights)
        attempt("no sockets (seccomp)", _forbid_sockets)
        attempt("no other files (Landlock)", lambda: _confine(rules["read"], rules["run"]))
    else:
        lacks += ["no sockets (seccomp)", "no other files (Landlock)"]
    if lacks:
        print(LACKS + "; ".join(lacks), file=sys.stderr, flush=True)
    # Last, since the interpreter itself may need more than the command is given.
    _lower(resource.RLIMIT_AS, rules["address_bytes"])
    os.execv(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as fault:
        print(f"{MARK}{fault}", file=sys.stderr)
        sys.exit(REFUSED)
