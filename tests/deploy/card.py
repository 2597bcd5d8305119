"""A card as one flashes it: an image with a boot partition (FAT) and a root partition (ext4) with a fresh Debian on it."""

import os
import shutil
import subprocess

from box import Failed, run, until

MIB = 1 << 20
BOOT_MIB, ROOT_MIB = 64, 1024
BOOT_AT, ROOT_AT = MIB, (1 + BOOT_MIB) * MIB
# For a kernel without FAT: the same by FUSE. `mount` looks for it here.
HELPER = '#!/bin/sh\nexec fusefat -o rw+ "$1" "$2" >/dev/null 2>&1\n'


class Skipped(Exception):
    """It cannot be done on this machine; the text says why."""


class Card:
    """The image, and the place where its partitions are mounted when it is in a box."""

    def __init__(self, tar, work):
        self.image, self.root = os.path.join(work, "card.img"), os.path.join(work, "plugged-in")
        self.boot = os.path.join(self.root, "boot/firmware")
        missing = [name for name in ("mkfs.vfat", "mkfs.ext4", "sfdisk", "losetup") if not shutil.which(name)]
        if missing:
            raise Skipped(f"there is no {missing[0]}")
        mounts_fat(work)
        self._make(tar)

    def _make(self, tar):
        with open(self.image, "wb") as file:
            file.truncate(ROOT_AT + ROOT_MIB * MIB)
        table = f"label: dos\nstart=1MiB, size={BOOT_MIB}MiB, type=c\nsize={ROOT_MIB - 1}MiB, type=83\n"
        run("sfdisk", "-q", self.image, input=table)
        run("mkfs.vfat", "-F", "32", f"--offset={BOOT_AT // 512}", self.image, str(BOOT_MIB * 1024))
        run("mkfs.ext4", "-q", "-F", "-E", f"offset={ROOT_AT}", self.image, f"{ROOT_MIB - 1}M")
        os.makedirs(self.root)
        try:
            self._mount(ROOT_AT, ROOT_MIB - 1, self.root)
        except Failed as error:
            raise Skipped(f"no loop device: {error}") from error
        run("tar", "-C", self.root, "-xf", tar)
        os.makedirs(self.boot, exist_ok=True)
        with open(os.path.join(self.root, "etc/machine-id"), "w", encoding="utf-8"):
            pass
        run("umount", self.root)
        self._until_free()

    def _mount(self, at, mib, place):
        run("mount", "-o", f"loop,offset={at},sizelimit={mib * MIB}", self.image, place)

    def plug_in(self):
        """Mounts both, as the box has them."""
        self._mount(ROOT_AT, ROOT_MIB - 1, self.root)
        self._mount(BOOT_AT, BOOT_MIB, self.boot)

    def pull_out(self):
        """Unmounts both; what was written is in the image."""
        for place in (self.boot, self.root):
            if os.path.ismount(place):
                run("umount", place)
        self._until_free()

    def _until_free(self):
        until(lambda: not run("losetup", "-j", self.image).strip(), "the image is let go")

    def boot_bytes(self):
        """Every byte of the boot partition, whatever its directory says."""
        with open(self.image, "rb") as file:
            file.seek(BOOT_AT)
            return file.read(BOOT_MIB * MIB)


def mounts_fat(work):
    """Sees to it that FAT can be mounted in this namespace."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "vfat"], capture_output=True, check=False)
    with open("/proc/filesystems", encoding="utf-8") as file:
        if "vfat" in file.read().split():
            return
    if not shutil.which("fusefat") or not os.path.exists("/dev/fuse"):
        raise Skipped("this kernel has no FAT, and there is no fusefat")
    tools = os.path.join(work, "sbin")
    os.makedirs(tools)
    with open(os.open(os.path.join(tools, "mount.vfat"), os.O_WRONLY | os.O_CREAT, 0o755), "w", encoding="utf-8") as file:
        file.write(HELPER)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={tools}:/usr/sbin", "/usr/sbin")
