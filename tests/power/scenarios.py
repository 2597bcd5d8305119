"""What the gateway does while its disk is recorded. A new scenario is a function here and a line in SCENARIOS."""

import contextlib
import dataclasses
import os
import threading
from typing import Callable

import judge
from gateway import Gateway, NotServing, Sender, published, webhook
from medium import write_back

PAYLOADS = os.path.join(os.path.dirname(__file__), "..", "payloads")


class Stage:
    """A gateway on a recorded disk, and what it has answered: pairs of a position in the disk's log and a body."""

    def __init__(self, place, position, environment=None):
        self.place, self.position, self.environment = place, position, environment
        self.acknowledged, self.gateway = [], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.gateway and self.gateway.process.returncode is None:
            self.gateway.kill()

    def start(self):
        self.gateway = Gateway(self.place, environment=self.environment).ready()

    def stop(self):
        if self.gateway.stop() != 0:
            raise NotServing(f"did not stop well: {self.place.tail()}")

    def kill(self):
        self.gateway.kill()

    def send(self, bodies, connections=1):
        """Sends each body once, over so many kept connections at once."""
        bodies = iter(list(bodies))
        turn = threading.Lock()

        def run():
            sender = Sender(self.place)
            while True:
                with turn:
                    body = next(bodies, None)
                if body is None:
                    return sender.close()
                if sender.send(body) == 200:
                    self.acknowledged.append((self.position(), body))

        threads = [threading.Thread(target=run) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def until(self, sql, wanted):
        judge.until(self.place, sql, wanted)

    def file_bytes(self):
        return os.path.getsize(os.path.join(self.place.state, "gateway.db"))

    @contextlib.contextmanager
    def writing_back(self, random):
        """Meanwhile the kernel sends dirty pages to the disk at moments of its own choice."""
        over = threading.Event()

        def run():
            while not over.wait(random.uniform(0.0005, 0.01)):
                write_back(os.path.join(self.place.state, random.choice(("gateway.db", "gateway.db-wal"))))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def first_start(stage):
    """The file is made, by its migrations."""
    stage.start()
    stage.send(webhook(f"first-{number}") for number in range(5))
    stage.stop()


def one_connection(stage):
    stage.start()
    stage.send(webhook(f"one-{number}") for number in range(120))
    stage.stop()


def eight_connections(stage):
    stage.start()
    stage.send((webhook(f"eight-{number}") for number in range(400)), connections=8)
    stage.stop()


def restarts(stage):
    """Killed with a WAL that was not copied into the file, and started again."""
    for turn in range(6):
        stage.start()
        stage.send((webhook(f"restart-{turn}-{number}") for number in range(20)), connections=2)
        stage.kill()


def planning(stage):
    """Every webhook that Belvo publishes is planned; there are no keys to fetch with."""
    stage.start()
    bodies = list(published(PAYLOADS))
    for at in range(0, len(bodies), 5):
        stage.send(bodies[at : at + 5])
    stage.until("SELECT count(*) = (SELECT count(*) FROM journal) FROM events", 1)
    stage.stop()


def fetch(stage):
    """Lists of several pages are stored while webhooks come in."""
    stage.start()
    links = [f"16f68516-bcbc-4cf7-b815-c500d42040{number}" for number in range(10, 16)]
    for turn in range(4):
        stage.send((webhook(f"fetch-{turn}-{link}", link=link) for link in links), connections=2)
    stage.until("SELECT count(*) FROM work WHERE wanted > fetched", 0)
    stage.until("SELECT count(*) FROM objects", len(links) * FETCHED)
    stage.stop()


def checkpoint(stage):
    """More than the WAL may hold, so that it is copied into the file, first by an idle writer, then by a busy one."""
    stage.start()
    before = stage.file_bytes()
    stage.send(webhook(f"idle-{number}", pad=40_000) for number in range(420))
    stage.send((webhook(f"busy-{number}", pad=40_000) for number in range(480)), connections=8)
    if stage.file_bytes() <= before:
        raise NotServing("there was no checkpoint: this scenario shows nothing")
    stage.send(webhook(f"after-{number}") for number in range(20))
    stage.stop()


def recovery(stage):
    """Started after a power cut, with a WAL of megabytes to look through, and cut again meanwhile."""
    stage.start()
    stage.send(webhook(f"recovery-{number}") for number in range(20))
    stage.stop()


def retention(stage):
    """Finished webhooks leave the journal, because it is larger than it may be."""
    stage.start()
    stage.send((webhook(f"leaves-{number}", pad=40_000) for number in range(60)), connections=4)
    stage.until("SELECT count(*) = 60 FROM events", 1)
    stage.until("SELECT count(*) FROM work WHERE wanted > fetched", 0)
    stage.stop()
    stage.start()
    stage.send(webhook(f"stays-{number}") for number in range(20))
    stage.until("SELECT count(*) < 60 FROM journal", 1)
    stage.send(webhook(f"comes-{number}") for number in range(20))
    stage.stop()


@dataclasses.dataclass
class Scenario:
    """What is played, and on what: a disk of so many MiB, with the file of an earlier run unless `fresh`, or
    the disk that another scenario leaves `after` a power cut; a stand-in for Belvo's API with so many objects in each
    list, or none; more lines of configuration; and whether finished webhooks may leave the journal."""

    play: Callable
    mib: int = 96
    fresh: bool = False
    after: str = ""
    belvo: int = 0
    more: str = ""
    leaves: bool = False


FETCHED = 700
SCENARIOS = {
    "first-start": Scenario(first_start, fresh=True),
    "intake-1": Scenario(one_connection),
    "intake-8": Scenario(eight_connections),
    "restarts": Scenario(restarts),
    "planning": Scenario(planning),
    "fetch": Scenario(fetch, belvo=FETCHED),
    "checkpoint": Scenario(checkpoint, mib=192),
    "retention": Scenario(retention, belvo=5, more="[storage]\njournal-max-mib = 1", leaves=True),
    "recovery": Scenario(recovery, after="checkpoint"),
}
