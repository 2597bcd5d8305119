"""A gateway at work on a recorded disk, and what that leaves to be looked at."""

import contextlib
import dataclasses
import os
import random
import shutil

from belvo import Belvo
from gateway import Gateway, Place
from medium import Log, Rewound, copy_image, make_image, mounted, recorded
from scenarios import SCENARIOS, Stage

# In a network of our own.
PORT = 8443


@dataclasses.dataclass
class Played:
    """What a scenario has left: the disk before it, the disk's log, and what was answered when."""

    directory: str
    acknowledged: list = dataclasses.field(default_factory=list)
    end: int = 0

    @property
    def image(self):
        return os.path.join(self.directory, "before.img")

    @property
    def log(self):
        return os.path.join(self.directory, "log")

    def answered_by(self, position):
        """The bodies that had been answered 200 by then."""
        return {body for at, body in self.acknowledged if at <= position}


def prepare(image, mib, place, mount, fresh=False):
    """A disk with a state directory; the file of an earlier run is in it unless it is to be `fresh`."""
    make_image(image, mib)
    with mounted(image, mount):
        os.mkdir(place.state)
        if not fresh:
            with Gateway(place) as gateway:
                gateway.stop()


@contextlib.contextmanager
def on_a_recorded_disk(played, mount):
    """Mounts the disk of `played`, and notes how far its log is in the end. Yields what says the position of now."""
    disk_image = os.path.join(played.directory, "disk.img")
    copy_image(played.image, disk_image)
    with recorded(disk_image, played.log, os.path.join(played.directory, "fuse")) as (disk, position):
        with mounted(disk, mount):
            try:
                yield position
            finally:
                played.end = position()
    os.unlink(disk_image)


def play(name, program, directory, seed, environment=None):
    """Plays a scenario on a recorded disk."""
    scenario = SCENARIOS[name]
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    played, mount = Played(directory), os.path.join(directory, "mount")
    belvo = Belvo(scenario.belvo) if scenario.belvo else None
    state = os.path.join(mount, "state")
    place = Place(f"{directory}/place", program, state, PORT, belvo and belvo.url, more=scenario.more)
    if scenario.after:
        cut_during(scenario.after, program, played, seed)
    else:
        prepare(played.image, scenario.mib, place, mount, scenario.fresh)
    with on_a_recorded_disk(played, mount) as position:
        with Stage(place, position, environment) as stage, stage.writing_back(random.Random(seed)):
            scenario.play(stage)
        played.acknowledged += stage.acknowledged
    if belvo:
        belvo.close()
    return played


def cut_during(name, program, played, seed):
    """Makes the disk of `played` one that another scenario has left when the power was lost half way through."""
    earlier = play(name, program, f"{played.directory}-earlier", seed)
    rewound = Rewound(earlier.image, Log(earlier.log), os.path.join(earlier.directory, "rewound.img"))
    rewound.cut(earlier.end // 2, "reordered", random.Random(seed), played.image)
    rewound.close()
    played.acknowledged = [(0, body) for body in earlier.answered_by(earlier.end // 2)]
    shutil.rmtree(earlier.directory)
