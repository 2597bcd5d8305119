"""A disk that remembers every write and every flush, and what it may hold after the power was lost at any of them.

The disk is one file of a FUSE file system; ext4 is mounted on it through a loop device. Its log is a sequence of
records, a write or a flush each. A position in the log is a moment: so many records had reached the disk. What was
written before the last flush of that moment is safe. Of what was written after it, a disk may keep any 4 KiB blocks and
lose others, and may have written half a block. Only the superblock of ext4 is written whole or not at all: when it is
torn, ext4 asks for a repair before it mounts, whatever is on it.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import stat
import struct
import subprocess
import time

BLOCK = 4096
SECTOR = 512
SUPERBLOCK = 0
FLUSH = 2**64 - 1
HEAD = struct.Struct("<QI")
WAYS = ("lost", "torn", "reordered", "kept")


def make_image(path, mib):
    """An empty ext4 file system in a sparse file. Its tables are written now, so that the log has none of that."""
    with open(path, "wb") as file:
        file.truncate(mib << 20)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-J", "size=4", "-m", "0", "-N", "256"]
        + ["-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", path],
        check=True,
    )


def copy_image(source, target):
    """Copies what is in a sparse file; far less than its size."""
    size = os.path.getsize(source)
    with open(source, "rb") as old, open(target, "wb") as new:
        new.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.copy_file_range(old.fileno(), new.fileno(), end - at, at, at)


@contextlib.contextmanager
def mounted(image, directory):
    """The file system in an image, mounted. The loop device goes with the mount."""
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", "loop,commit=1", image, directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


@contextlib.contextmanager
def recorded(image, log, directory):
    """Serves `image` as a disk whose writes go to `log` as well. Yields the disk's file and a function that says the
    position of now."""
    count = mmap.mmap(-1, 8)
    os.makedirs(directory, exist_ok=True)
    server = os.fork()
    if server == 0:
        _serve(image, log, directory, count)
    disk = os.path.join(directory, "disk")
    try:
        while not os.path.exists(disk):
            if os.waitpid(server, os.WNOHANG)[0]:
                raise RuntimeError("the FUSE file system did not start")
            time.sleep(0.005)
        yield disk, lambda: int.from_bytes(count[:8], "little")
    finally:
        subprocess.run(["umount", directory], check=False)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


def _serve(image, log, directory, count):
    import fusepy

    class Disk(fusepy.Operations):
        """One file. Calls come one after the other."""

        def __init__(self):
            self.image = os.open(image, os.O_RDWR)
            self.log = open(log, "wb", buffering=0)
            self.records = 0

        def note(self, offset, data=b""):
            self.log.write(HEAD.pack(offset, len(data)) + data)
            self.records += 1
            count[:8] = self.records.to_bytes(8, "little")

        def getattr(self, path, fh=None):
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path == "/disk":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": os.fstat(self.image).st_size}
            raise fusepy.FuseOSError(errno.ENOENT)

        def read(self, path, size, offset, fh):
            return os.pread(self.image, size, offset)

        def write(self, path, data, offset, fh):
            self.note(offset, data)
            return os.pwrite(self.image, data, offset)

        def fsync(self, path, datasync, fh):
            self.note(FLUSH)
            return 0

        def statfs(self, path):
            return {}

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        fusepy.FUSE(Disk(), directory, foreground=True, nothreads=True, big_writes=True, max_write=131072)
    finally:
        os._exit(1)


class Log:
    """The log of a disk, read back: an offset and the bytes of each write, or a flush."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.records = []
        at = 0
        while at + HEAD.size <= len(self.bytes):
            offset, length = HEAD.unpack_from(self.bytes, at)
            at += HEAD.size
            self.records.append((offset, at, length))
            at += length

    def flushes(self, end):
        """The positions of the flushes before `end`."""
        return [at for at, (offset, _, _) in enumerate(self.records[:end]) if offset == FLUSH]

    def writes(self, begin, end):
        """Offset and bytes of the writes between two positions."""
        for offset, at, length in self.records[begin:end]:
            if offset != FLUSH:
                yield offset, memoryview(self.bytes)[at : at + length]


class Rewound:
    """A disk as it was when it was new, moved on through its log. Positions only grow."""

    def __init__(self, image, log, path):
        self.log, self.path = log, path
        copy_image(image, path)
        self.file = os.open(path, os.O_RDWR)
        self.safe = 0

    def close(self):
        os.close(self.file)
        os.unlink(self.path)

    def cut(self, position, way, random, target):
        """What the disk may hold when the power is lost at this position, as an image."""
        flushed = self.safe
        for at in range(position - 1, self.safe - 1, -1):
            if self.log.records[at][0] == FLUSH:
                flushed = at
                break
        for offset, data in self.log.writes(self.safe, flushed):
            os.pwrite(self.file, data, offset)
        self.safe = flushed
        copy_image(self.path, target)
        volatile = []
        for offset, data in self.log.writes(flushed, position):
            volatile += [(offset + at, data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
        with open(target, "r+b") as file:
            for offset, data in survivors(volatile, way, random):
                os.pwrite(file.fileno(), data, offset)


def survivors(blocks, way, random):
    """Of the blocks that were written and not flushed, those that the disk kept."""
    if way == "lost" or not blocks:
        return []
    if way == "kept":
        return blocks
    if way == "reordered":
        share = random.choice((0.1, 0.5, 0.9))
        return [block for block in blocks if random.random() < share]
    # Torn: everything up to some block, and of that one a half or some sectors.
    last = random.randrange(len(blocks))
    offset, data = blocks[last]
    if offset == SUPERBLOCK:
        return blocks[:last]
    sectors = range(0, len(data), SECTOR)
    if random.random() < 0.5:
        half = random.choice((0, 1))
        sectors = [at for at in sectors if (at >= len(data) // 2) == half]
    else:
        sectors = [at for at in sectors if random.random() < 0.5]
    return blocks[:last] + [(offset + at, data[at : at + SECTOR]) for at in sectors]


_libc = ctypes.CDLL(None, use_errno=True)
_WRITE_BACK = 2


def write_back(path):
    """Sends what is dirty of a file to the disk without a flush, as the kernel does when it likes."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        _libc.sync_file_range(file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), _WRITE_BACK)
