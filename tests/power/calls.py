"""Single-call faults: one system call of the program fails once, as strace makes it; each time another call, at another
moment, from its start on or once it serves. Whatever was answered 200 must be there when the power is lost right after it. Once the fault is over the program
must acknowledge again: the same process, or when it ended with an error, the next one."""

import collections
import os
import random
import shutil
import subprocess
import threading
import time

from gateway import Gateway, NotServing, Place, Sender, webhook
from medium import Log, Rewound, copy_image
from power import PORT, Bench, Played, on_a_recorded_disk, prepare

# How each call may fail, and of a thread's first calls of this kind, how many are candidates. Once the program serves,
# half as many are.
FAULTS = {
    "pwrite64": (("EIO", "ENOSPC"), 40),
    "fdatasync": (("EIO", "ENOSPC"), 20),
    "fsync": (("EIO",), 2),
    "ftruncate": (("EIO", "ENOSPC"), 2),
    "openat": (("EIO", "ENOMEM", "EMFILE", "ENOSPC"), 25),
    "pread64": (("EIO",), 20),
    "read": (("EIO", "ENOMEM"), 25),
    "write": (("EIO", "ENOSPC"), 10),
    "writev": (("ENOMEM", "EPIPE"), 10),
    "sendto": (("ENOMEM", "ECONNRESET"), 10),
    "recvfrom": (("ENOMEM", "ECONNRESET"), 20),
    "accept4": (("ENOMEM", "EMFILE", "ECONNABORTED"), 5),
    "fcntl": (("EIO", "ENOLCK"), 40),
    "mmap": (("ENOMEM",), 60),
    "fstat,newfstatat,statx": (("EIO", "ENOMEM"), 20),
}
WEBHOOKS = 24
CONNECTIONS = 3
# Within this time a program that still runs must acknowledge again.
AGAIN_WAIT = 20


class Run:
    """One program with one fault, on a recorded disk."""

    def __init__(self, options, directory, before, fault):
        self.call, self.error, self.when, self.serving = fault
        self.mount, self.trace = os.path.join(directory, "mount"), os.path.join(directory, "trace")
        self.place = Place(f"{directory}/place", options.program, f"{self.mount}/state", PORT)
        self.played, self.ended = Played(directory), False
        copy_image(before, self.played.image)

    def strace(self, *more):
        inject = f"inject={self.call}:error={self.error}:when={self.when}"
        return ["strace", "-f", "-q", "-o", self.trace, "-e", f"trace={self.call}", "-e", inject, *more]

    def hit(self):
        """Whether the call failed at all."""
        with open(self.trace, errors="replace") as file:
            return "(INJECTED)" in file.read()

    def play(self):
        """What is wrong with how the program lives through the fault, or nothing."""
        with on_a_recorded_disk(self.played, self.mount) as self.position:
            gateway = Gateway(self.place, () if self.serving else self.strace("-D"))
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
        deadline = time.monotonic() + AGAIN_WAIT
        while time.monotonic() < deadline:
            if self._acknowledged("afterwards", Sender(self.place, timeout=5)):
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
    """Starts strace on a process that runs, and waits until all its threads are traced."""
    tracer = subprocess.Popen(strace, stderr=subprocess.DEVNULL)
    while not all(is_traced(f"/proc/{pid}/task/{thread}/status") for thread in os.listdir(f"/proc/{pid}/task")):
        if tracer.poll() is not None:
            raise RuntimeError("strace cannot attach")
        time.sleep(0.005)


def is_traced(status):
    with open(status) as file:
        return "TracerPid:\t0\n" not in file.read()


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


def run(options, report):
    began, wanted, tries = time.monotonic(), options.amount("calls"), 0
    chance, findings, hits, ended = random.Random(options.seed), [], collections.Counter(), 0
    bench, before = Bench(f"{options.work}/bench", options.program, PORT + 1), f"{options.work}/before.img"
    prepare(before, 32, bench.place, bench.mount)
    while hits.total() < wanted and tries < 10 * wanted:
        call = list(FAULTS)[tries % len(FAULTS)]
        errors, candidates = FAULTS[call]
        serving = chance.random() < 0.5
        fault = (call, chance.choice(errors), chance.randint(1, candidates // 2 if serving else candidates), serving)
        tries += 1
        once = Run(options, f"{options.work}/call", before, fault)
        wrong = once.play()
        if once.hit():
            hits[call] += 1
            ended += once.ended
            wrong = wrong or power_lost_after(once.played, bench, chance)
        if wrong:
            findings.append((*wrong, "{}:error={}:when={}, once it served: {}".format(*fault)))
        shutil.rmtree(once.played.directory)
    text = f"{hits.total()} faults of {len(hits)} calls, {ended} ended the program"
    report.add("calls", text, began, findings, kinds=("lost", "corrupt", "not serving"))
