"""Runs programs of 64-bit ARM on a machine of another kind, as if they were its own. For that the kernel has to know about
qemu, which is told here in a user namespace of our own, as .ci/emulated does: the machine's settings stay as they are. All
users are in it under their own numbers, since a Debian has files of several."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys

QEMU = "/usr/bin/qemu-aarch64-static"
# Of linux/sched.h and linux/prctl.h.
CLONE_NEWUSER, PR_SET_PDEATHSIG = 0x10000000, 1
# The head of an ELF file for aarch64, and which of its bits count. With F the emulator needs not be in the container.
BINFMT = (
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:" + QEMU + ":F"
)


def missing(architecture):
    """Why programs of this architecture cannot be run by us, or nothing."""
    if architecture != "arm64":
        return f"packages for {architecture} cannot be tried on this machine"
    if not shutil.which(QEMU):
        return f"there is no {QEMU}"
    tried = run("unshare", "--mount", sys.executable, os.path.abspath(__file__), "true", stderr=subprocess.PIPE)
    return f"no user namespace with binfmt_misc: {tried.stderr.strip()}" if tried.returncode else None


def run(*command, **options):
    """Runs a command in a user namespace of its own, in which `register` is allowed; how it ended."""
    ready, go = os.pipe(), os.pipe()
    libc = ctypes.CDLL(None, use_errno=True)

    def in_child():
        if libc.unshare(CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "unshare")
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.write(ready[1], str(os.getpid()).encode() + b"\n")
        os.read(go[0], 1)

    # Another process than this one, which waits until the command has begun.
    mapper = os.fork()
    if mapper == 0:
        try:
            _map_users(ready)
        finally:
            os.write(go[1], b"x")
            os._exit(0)
    os.close(ready[0])
    try:
        return subprocess.run(command, preexec_fn=in_child, text=True, check=False, **options)
    finally:
        for end in (ready[1], *go):
            os.close(end)
        os.waitpid(mapper, 0)


def _map_users(ready):
    """Gives all users to the namespace of the process that says that it has one."""
    os.close(ready[1])
    process = os.read(ready[0], 16).decode().strip()
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{process}/{name}", "w", encoding="ascii") as file:
            file.write("0 0 4294967295\n")


def register():
    """Tells the kernel. Only in a user namespace and with mounts of its own, or it would hold for the whole machine."""
    subprocess.run(["mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc"], check=True)
    with open("/proc/sys/fs/binfmt_misc/register", "w", encoding="ascii") as file:
        file.write(BINFMT)


if __name__ == "__main__":
    # Called by the above and by box.py: the rest of the command line is run with the kernel told.
    register()
    os.execvp(sys.argv[1], sys.argv[1:])
