"""Kills: SIGKILL at random moments under load, from before the file is open to the middle of a fetch. Senders send
again what was not answered 200, as Belvo does; at the end everything that was ever answered is in the journal."""

import os
import random
import threading
import time

import judge
from belvo import Belvo
from gateway import Gateway, Place, Sender, webhook
from medium import make_image, mounted
from recording import PORT

SENDERS = 4
# Between two looks at the file. The journal grows, and each look reads all of it.
LOOK_EVERY = 200


class Load:
    """Senders that never give a webhook up."""

    def __init__(self, place):
        self.place, self.over = place, threading.Event()
        self.answered, self.again = [[] for _ in range(SENDERS)], [0] * SENDERS
        self.threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in self.threads:
            thread.start()

    def _send(self, number):
        sender, count = Sender(self.place), 0
        while not self.over.is_set():
            body = webhook(f"kill-{number}-{count}")
            while not self.over.is_set():
                if sender.send(body) == 200:
                    self.answered[number].append(body)
                    break
                self.again[number] += 1
                self.over.wait(0.002)
            count += 1

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def so_far(self):
        return {body for answered in self.answered for body in answered[:]}


def run(options, report):
    began, kills = time.monotonic(), options.amount("kills")
    chance, findings = random.Random(options.seed), []
    image, mount = os.path.join(options.work, "kills.img"), os.path.join(options.work, "kills")
    belvo = Belvo(objects=1_500)
    make_image(image, 1024)
    with mounted(image, mount):
        state = os.path.join(mount, "state")
        place = Place(os.path.join(options.work, "place"), options.program, state, PORT, belvo.url)
        os.mkdir(state)
        load = Load(place)
        try:
            for kill in range(1, kills + 1):
                gateway = Gateway(place)
                # One in five is killed while it starts.
                if chance.random() < 0.8:
                    gateway.ready()
                time.sleep(chance.uniform(0, 0.04))
                gateway.kill()
                if kill % LOOK_EVERY == 0 or kill == kills:
                    findings += look(load.so_far(), state, f"{options.work}/scratch", kill)
        finally:
            load.end()
        with Gateway(place) as gateway:
            if Sender(place).send(webhook("again")) != 200:
                findings.append(("not serving", "after the last kill", place.tail()))
    belvo.close()
    os.unlink(image)
    text = f"{kills} kills, {len(load.so_far())} answered 200, {sum(load.again)} sent again"
    report.add("kills", text, began, findings, kinds=("lost", "corrupt", "not serving"))


def look(wanted, state, scratch, kill):
    """What is wrong with the file after a kill; `wanted` was answered before it."""
    try:
        missing = judge.missing(wanted, state, scratch)
    except judge.Corrupt as error:
        return [("corrupt", str(error), f"kill {kill}")]
    return [("lost", f"{len(missing)} of {len(wanted)}", f"kill {kill}")] if missing else []
