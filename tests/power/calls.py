"""Single-call faults: one system call of the program fails once, as strace makes it; each time another call, at another
moment, from its start on or once it serves. Whatever was answered 200 must be there when the power is lost right after
it. Once the fault is over the program must acknowledge again: the same process, or when it ended with an error, the
next one. A program whose syncs are lies must not pass."""

import collections
import glob
import os
import random
import shutil
import subprocess
import threading
import time

from bench import Bench
from gateway import Gateway, NotServing, Place, Sender, webhook
from medium import Log, Rewound, copy_image
from recording import PORT, Played, on_a_recorded_disk, prepare

# How each call may fail; of a thread's first calls of this kind, how many are candidates when the program is traced
# from its start on, and when it is traced once it serves.
FAULTS = {
    "pwrite64": (("EIO", "ENOSPC"), 40, 40),
    "fdatasync,fsync": (("EIO", "ENOSPC"), 12, 8),
    "sync_file_range": (("EIO", "ENOSPC", "ENOSYS"), 10, 10),
    "ftruncate": (("EIO", "ENOSPC"), 2, 0),
    "openat": (("EIO", "ENOMEM", "EMFILE", "ENOSPC"), 15, 0),
    "pread64": (("EIO",), 20, 10),
    "read": (("EIO", "ENOMEM"), 15, 1),
    "sendto,write,writev": (("EIO", "ENOMEM", "EPIPE"), 10, 10),
    "recvfrom": (("ENOMEM", "ECONNRESET"), 20, 20),
    "accept4": (("ENOMEM", "EMFILE", "ECONNABORTED"), 4, 4),
    "fcntl": (("EIO", "ENOLCK"), 40, 40),
    "mmap": (("ENOMEM",), 40, 0),
    "fstat,newfstatat,statx": (("EIO", "ENOMEM"), 15, 10),
}
# After one of these SQLite may hold a lock against itself until the program ends itself, a minute later: not for each
# change.
SLOW = {"fcntl"}
WEBHOOKS = 24
CONNECTIONS = 3
# Within this time a program that still runs must acknowledge again: after a minute without a success it ends itself, and
# the next start counts.
AGAIN_WAIT = 80
# And nearly always within this one.
SOON = 2


class Run:
    """One program with one fault, on a recorded disk."""

    def __init__(self, options, directory, before, fault, environment=None):
        self.call, self.error, self.when, self.serving = fault
        self.environment = environment
        self.mount, self.trace = os.path.join(directory, "mount"), os.path.join(directory, "trace")
        self.place = Place(f"{directory}/place", options.program, f"{self.mount}/state", PORT)
        self.played, self.ended, self.waited = Played(directory), False, 0
        copy_image(before, self.played.image)

    def strace(self, *more):
        inject = f"inject={self.call}:error={self.error}:when={self.when}"
        return ["strace", "-f", "-q", "-o", self.trace, "-e", f"trace={self.call}", "-e", inject, *more]

    def hit(self):
        """Whether the call failed at all."""
        if not os.path.exists(self.trace):
            return False
        with open(self.trace, errors="replace") as file:
            return "(INJECTED)" in file.read()

    def play(self):
        """What is wrong with how the program lives through the fault, or nothing."""
        with on_a_recorded_disk(self.played, self.mount) as self.position:
            gateway = Gateway(self.place, () if self.serving else self.strace("-D"), self.environment)
            try:
                with gateway:
                    if self.serving:
                        attach(self.strace("-p", str(gateway.process.pid)), gateway.process.pid)
                    self._send_all()
                    return self._again(gateway)
            except NotServing:
                self.ended = True
                return self._next(gateway)

    def _send_all(self):
        threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, number):
        sender = Sender(self.place, timeout=10)
        for count in range(number, WEBHOOKS, CONNECTIONS):
            self._acknowledged(f"call-{count}", sender)
        sender.close()

    def _acknowledged(self, name, sender):
        body = webhook(name)
        if sender.send(body) != 200:
            return False
        self.played.acknowledged.append((self.position(), body))
        return True

    def _again(self, gateway):
        """Waits until it acknowledges again."""
        began = time.monotonic()
        while self.waited < AGAIN_WAIT:
            acknowledged = self._acknowledged("afterwards", Sender(self.place, timeout=5))
            self.waited = time.monotonic() - began
            if acknowledged:
                return None
            if gateway.process.poll() is not None:
                raise NotServing(f"it has ended: {self.place.tail()}")
            time.sleep(0.05)
        return "not serving", f"nothing was acknowledged within {AGAIN_WAIT} s: {self.place.tail()}"

    def _next(self, gateway):
        """It has ended; the service manager starts it again only when that was an error."""
        if gateway.process.returncode == 0:
            return "not serving", "it ended with exit status 0"
        try:
            with Gateway(self.place):
                acknowledged = self._acknowledged("afterwards", Sender(self.place))
        except NotServing as error:
            return "not serving", f"the next start: {error}"
        return None if acknowledged else ("not serving", "the next start does not acknowledge")


def attach(strace, pid):
    """Starts strace on a process that runs, and waits until all its threads are traced, or the fault has ended it."""
    tracer = subprocess.Popen(strace, stderr=subprocess.DEVNULL)
    while tracer.poll() is None and not all(map(is_traced, glob.glob(f"/proc/{pid}/task/*/status"))):
        time.sleep(0.005)


def is_traced(status):
    """Whether a thread is traced, or has ended."""
    try:
        with open(status) as file:
            return "TracerPid:\t0\n" not in file.read()
    except OSError:
        return True


def power_lost_after(played, bench, chance):
    """What is wrong with the disk when the power is lost after the last answer, or nothing."""
    if not played.acknowledged:
        return None
    position = max(at for at, _ in played.acknowledged)
    log, path = Log(played.log), os.path.join(played.directory, "rewound.img")
    for way in ("lost", "reordered"):
        rewound = Rewound(played.image, log, path)
        rewound.cut(position, way, chance, bench.image)
        rewound.close()
        if wrong := bench.judge(played.answered_by(position)):
            return wrong
    return None


def choose(call, chance):
    """How, when, and whether only once it serves, this call is to fail."""
    errors, at_start, once_it_serves = FAULTS[call]
    serving = once_it_serves > 0 and chance.random() < 0.7
    return call, chance.choice(errors), chance.randint(1, once_it_serves if serving else at_start), serving


def run(options, report):
    began, wanted, tries = time.monotonic(), options.amount("calls"), 0
    chance, findings, hits, ended, slow = random.Random(options.seed), [], collections.Counter(), 0, 0
    bench, before = Bench(f"{options.work}/bench", options.program, PORT + 1), f"{options.work}/before.img"
    prepare(before, 96, bench.place, bench.mount)
    calls = [call for call in FAULTS if not (options.reduced and call in SLOW)]
    while hits.total() < wanted and tries < 10 * wanted:
        call = calls[tries % len(calls)]
        fault = choose(call, chance)
        tries += 1
        once = Run(options, f"{options.work}/call", before, fault)
        wrong = once.play()
        if once.hit():
            hits[call] += 1
            ended += once.ended
            slow += once.waited > SOON
            wrong = wrong or power_lost_after(once.played, bench, chance)
        if wrong:
            findings.append((*wrong, "{}:error={}:when={}, once it served: {}".format(*fault)))
        shutil.rmtree(once.played.directory)
    text = f"{hits.total()} faults of {len(hits)} calls, {ended} ended the program, {slow} over {SOON} s to a 200"
    report.add("calls", text, began, findings, kinds=("lost", "corrupt", "not serving"))
    prove(options, report, before, bench, chance)


def prove(options, report, before, bench, chance):
    """With syncs that are not done, what was answered must be lost in the power cut after it."""
    began = time.monotonic()
    once = Run(options, f"{options.work}/call", before, ("pwrite64", "EIO", 5, True), options.liar("skip"))
    wrong = once.play() or power_lost_after(once.played, bench, chance)
    shutil.rmtree(once.played.directory)
    missed = [] if wrong and wrong[0] == "lost" else [("missed", "a wrong program was not caught", wrong)]
    report.add("calls, every sync is a lie", f"caught: {wrong and wrong[0]}", began, missed)
