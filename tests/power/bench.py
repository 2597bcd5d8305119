"""Where a disk is looked at that a power cut has left: by ext4, by SQLite, and by the program itself."""

import os
import shutil
import subprocess

import judge
from belvo import Belvo
from gateway import Gateway, NotServing, Place, Sender, webhook
from medium import mounted


class Bench:
    """A place for one disk at a time. Each process has its own, with a port of its own; `objects` and `leaves` are those
    of the scenario."""

    def __init__(self, directory, program, port, objects=0, leaves=False):
        self.directory, self.image = directory, os.path.join(directory, "state.img")
        self.mount, self.scratch = os.path.join(directory, "mount"), os.path.join(directory, "scratch")
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        self.state = os.path.join(self.mount, "state")
        self.objects, self.leaves = objects, leaves
        belvo = Belvo(objects).url if objects else None
        self.place = Place(os.path.join(directory, "place"), program, self.state, port, belvo)

    def judge(self, wanted, to_the_end=False):
        """What is wrong with the disk in the image: a kind and a sentence, or nothing. `wanted` are the bodies that
        must be in the journal. With `to_the_end` the program has the time to plan and fetch everything again."""
        try:
            with mounted(self.image, self.mount):
                if missing := judge.missing(wanted, self.state, self.scratch, self.leaves):
                    return "lost", f"{len(missing)} of {len(wanted)}, one is {min(missing)[:60]}"
                self._serve(webhook("again"), to_the_end)
                wanted = wanted | {webhook("again")}
                if missing := judge.missing(wanted, self.state, self.scratch, self.leaves):
                    return "lost", f"{len(missing)} of {len(wanted)} by the start after the cut"
        except judge.Corrupt as error:
            return "corrupt", str(error)
        except NotServing as error:
            return "not serving", str(error)
        except subprocess.CalledProcessError as error:
            return "corrupt", f"the file system: {error}"
        return None

    def _serve(self, body, to_the_end):
        with Gateway(self.place):
            if (answer := Sender(self.place).send(body)) != 200:
                raise NotServing(f"the answer is {answer}: {self.place.tail()}")
            if to_the_end:
                judge.until(self.place, "SELECT count(*) FROM journal WHERE seq NOT IN (SELECT seq FROM events)", 0)
                judge.until(self.place, "SELECT count(*) FROM work WHERE wanted > fetched AND blocked_by IS NULL", 0)
                judge.until(self.place, EXPECTED.format(self.objects), 0)


# Every object of every link that there was a webhook about.
EXPECTED = """SELECT {} * (SELECT count(*) FROM work WHERE resource = 'transactions')
                     - (SELECT count(*) FROM objects WHERE resource = 'transactions')"""
