"""A Debian with systemd as its first process, in a container: made, booted, entered, switched on again."""

import os
import shutil
import subprocess
import sys
import time

import emulated

# What the container needs beside the smallest Debian: systemd, and what the checks look with.
PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,procps,sqlite3,openssl,adduser"
# How long anything may take before we give up on it. The machines are shared and slow at times.
PATIENCE = 60
ADDRESS = "192.0.2.10"
# Belvo's, as the program's default `allow` has them.
BELVO = ("3.130.254.46", "18.220.61.186", "18.223.45.212")


class Failed(Exception):
    """Something did not happen; the text says what."""


def run(*command, **options):
    """A command of the machine; what it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


def root_file_system(cache, foreign=None):
    """The tar of a fresh Debian 12, of this machine's architecture or a foreign one, made once; minutes the first time."""
    tar = os.path.join(cache, f"bookworm-{foreign}.tar" if foreign else "bookworm.tar")
    if not os.path.exists(tar):
        os.makedirs(cache, exist_ok=True)
        tree = os.path.join(cache, f"bookworm-{foreign}.new" if foreign else "bookworm.new")
        shutil.rmtree(tree, ignore_errors=True)
        first = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
        run(*first, *(["--foreign", f"--arch={foreign}"] if foreign else []), "bookworm", tree)
        if foreign:
            second_stage(tree)
        # A box without a network must not believe that it could fetch more; and room.
        without = ["--exclude=./var/lib/apt/lists/*", "--exclude=./var/cache/apt/archives/*.deb"]
        run("tar", "-C", tree, *without, "-cf", f"{tar}.new", ".")
        shutil.rmtree(tree)
        os.rename(f"{tar}.new", tar)
    return tar


def second_stage(tree):
    """What of debootstrap runs programs of the foreign Debian. In a user namespace no devices can be made: debootstrap knows
    this of LXC."""
    done = emulated.run(
        *["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"],
        *[sys.executable, emulated.__file__, "chroot", tree, "/debootstrap/debootstrap", "--second-stage"],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "container": "lxc"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise Failed(f"debootstrap --second-stage: {done.stdout.strip()}")


class Box:
    """The container. Its network is one of its own, with Belvo's addresses at the other end of the only cable."""

    def __init__(self, tar, root):
        self.root = root
        os.makedirs(root)
        # nspawn makes the devices, and where we are emulated we may not.
        run("tar", "-C", root, "--exclude=./dev/*", "-xf", tar)
        for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.write("etc/machine-id", "")
        self.write("etc/hostname", "box\n")
        self._network()
        self.switch_on()

    def switch_on(self):
        """Boots it."""
        # The namespace is kept by a name, so that the cable stays plugged in while the box is off.
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", self.root, "--register=no", "--keep-unit", "--link-journal=no"]
            + ["--console=pipe", "--network-namespace-path=/run/netns/box", "--boot"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.set_blocking(self.nspawn.stdout.fileno(), False)
        self.leader = None
        self.until_up()

    def _network(self):
        run("ip", "netns", "add", "box")
        run("ip", "link", "add", "wan", "type", "veth", "peer", "name", "lan", "netns", "box")
        for command in ("link set lo up", "link set wan up", f"route add {ADDRESS}/32 dev wan"):
            run("ip", *command.split())
        for command in ("link set lo up", "link set lan up", f"addr add {ADDRESS}/24 dev lan", "route add default dev lan"):
            run("ip", "-n", "box", *command.split())
        for address in (*BELVO, "198.51.100.7"):
            run("ip", "addr", "add", f"{address}/32", "dev", "wan")

    def path(self, name):
        """A file of the box, from outside."""
        return os.path.join(self.root, name)

    def write(self, name, text, mode=0o644):
        """Writes a file of the box."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def read(self, name):
        """The text of a file of the box."""
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def put(self, source, name, mode=0o755):
        """Copies a file into the box under a new name and moves it to its place, as dpkg does."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(source, f"{path}.new")
        os.chmod(f"{path}.new", mode)
        os.rename(f"{path}.new", path)

    def does(self, command, may_fail=False, stdin=None):
        """Runs a shell command in the box as root; what it printed."""
        entered = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--", "env", "-i"]
        entered += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "SYSTEMD_PAGER="]
        entered += ["DEBIAN_FRONTEND=noninteractive", "sh", "-c", command]
        done = subprocess.run(
            entered, input=stdin or "", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=2 * PATIENCE,
        )
        if done.returncode and not may_fail:
            raise Failed(f"{command}: {done.stdout.strip()}")
        return done.stdout.strip()

    def until_up(self):
        """Waits until it has booted, whatever its services say."""

        def is_up():
            self.nspawn.stdout.read()
            children = run("ps", "-o", "pid=", "--ppid", str(self.nspawn.pid)).split()
            if not children:
                return False
            self.leader = int(children[0])
            state = self.does("systemctl is-system-running", may_fail=True)
            return state in ("running", "degraded")

        until(is_up, "the container boots")

    def reboot(self):
        """Switches it off and on. Where nspawn is kept in a unit it leaves the second half to whoever started it."""
        self.does("systemctl reboot", may_fail=True)
        self.nspawn.communicate(timeout=PATIENCE)
        if self.nspawn.returncode != 133:
            raise Failed(f"the container does not ask to be booted again but ends with {self.nspawn.returncode}")
        self.switch_on()

    def switch_off(self):
        """Ends it; what it printed on its console is drained meanwhile."""
        self.nspawn.terminate()
        try:
            self.nspawn.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()


def until(holds, what, patience=PATIENCE):
    """Waits until something holds, for which there is no event; how long it took."""
    began = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began
        except Failed:
            pass
        if time.monotonic() - began > patience:
            raise Failed(f"in {patience} s it did not come to pass that {what}")
        time.sleep(0.02)
