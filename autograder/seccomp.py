"""System calls that an answer to an exercise has no use for, refused by the kernel.

A sandbox keeps the rest of the machine out of reach. This keeps one test's process from its
worker, and from what the next test meets: no new processes or threads, no other program, no signal
or limit for anybody else, no memory, message or key that outlives it, no namespace of its own.
A refused call fails with "Operation not permitted", and Python raises an OSError.
This file is copied into the sandbox beside worker.py.
"""

import ctypes
import os
import platform
import struct

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers on x86_64 and on aarch64; None where there is no such call.
REFUSED = {
    **{"fork": (57, None), "vfork": (58, None), "clone": (56, 220), "clone3": (435, 435)},
    **{"execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"process_madvise": (440, 440), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438)},
    **{"pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138)},
    **{"rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "ioprio_set": (251, 30)},
    **{"sched_setparam": (142, 118), "sched_setscheduler": (144, 119)},
    **{"sched_setaffinity": (203, 122), "sched_setattr": (314, 274)},
    **{"shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195)},
    **{"semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192)},
    **{"msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187)},
    **{"mq_open": (240, 180), "mq_unlink": (241, 181)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    **{"unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41)},
    **{"mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428), "fsopen": (430, 430)},
    **{"move_mount": (429, 429), "fsmount": (432, 432), "mount_setattr": (442, 442)},
    **{"socket": (41, 198), "bpf": (321, 280), "perf_event_open": (298, 241)},
    **{"userfaultfd": (323, 282), "io_uring_setup": (425, 425), "personality": (135, 92)},
    **{"quotactl": (179, 60), "acct": (163, 89)},
}
ONLY_ITSELF = {
    **{"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)},
    **{"prlimit64": (302, 261)},
}

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2
LOAD, IF_EQUAL, IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # of the kernel's packet filter
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # places in what a filter looks at
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # 1 is EPERM
X32 = 0x40000000  # a second set of numbers on x86_64, which nothing here uses


def refuse() -> None:
    """Install the filter in this process; it cannot be taken away again.

    Raises:
        OSError: the kernel does not take filters.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return
    program = b"".join(struct.pack("<HBBI", *each) for each in instructions(machine, os.getpid()))
    space = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(space))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, header, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no filter of system calls: {os.strerror(number)}")


def instructions(machine: str, process: int) -> list[tuple[int, int, int, int]]:
    """The filter as (operation, steps if true, steps if false, value)."""
    column = list(ARCHITECTURES).index(machine)
    found = [(LOAD, 0, 0, ARCHITECTURE)]
    found += [(IF_EQUAL, 1, 0, ARCHITECTURES[machine]), (RETURN, 0, 0, REFUSE)]
    found += [(LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":
        found += [(IF_AT_LEAST, 0, 1, X32), (RETURN, 0, 0, REFUSE)]
    for numbers in REFUSED.values():
        if numbers[column] is not None:
            found += [(IF_EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, REFUSE)]
    for numbers in ONLY_ITSELF.values():  # 0 stands for oneself, or for one's own group
        found += [(IF_EQUAL, 0, 5, numbers[column]), (LOAD, 0, 0, FIRST_ARGUMENT)]
        found += [(IF_EQUAL, 2, 0, process), (IF_EQUAL, 1, 0, 0)]
        found += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    return [*found, (RETURN, 0, 0, ALLOW)]
