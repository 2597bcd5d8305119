"""Power: the gateway works on a disk that is recorded; then the disk is put together again as a power cut at some moment
would have left it, a thousand times, and each time everything that had been answered 200 must be there and the program
must serve again."""

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import random
import shutil
import subprocess
import time

import judge
from belvo import Belvo
from gateway import Gateway, NotServing, Place, Sender, webhook
from medium import WAYS, Log, Rewound, copy_image, make_image, mounted, recorded
from scenarios import SCENARIOS, Stage

PORT = 8443


@dataclasses.dataclass
class Cut:
    """A moment at which the power is lost, and what the disk does then with what it was not made to keep."""

    position: int
    way: str
    seed: int


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
    place = Place(os.path.join(directory, "place"), program, os.path.join(mount, "state"), PORT, belvo and belvo.url)
    prepare(played.image, scenario.mib, place, mount, scenario.fresh)
    with on_a_recorded_disk(played, mount) as position:
        with Stage(place, position, environment) as stage, stage.writing_back(random.Random(seed)):
            scenario.play(stage)
        played.acknowledged = stage.acknowledged
    if belvo:
        belvo.close()
    return played


def choose(log, end, count, seed):
    """Half of the cuts are just before a flush or just after it, every flush in turn; half are anywhere."""
    chance = random.Random(seed)
    at_flushes = [Cut(at, way, 0) for at in log.flushes(end) for way in WAYS[:3]]
    at_flushes += [Cut(at + 1, "lost", 0) for at in log.flushes(end)]
    chance.shuffle(at_flushes)
    cuts = at_flushes[: count // 2]
    while len(cuts) < count:
        cuts.append(Cut(chance.randint(1, end), chance.choice(WAYS), 0))
    for cut in cuts:
        cut.seed = chance.getrandbits(32)
    return sorted(cuts, key=lambda cut: cut.position)


class Bench:
    """Where cut states are put together and looked at; each process has one, with a port of its own."""

    def __init__(self, directory, program, port):
        self.directory, self.image = directory, os.path.join(directory, "state.img")
        self.mount, self.scratch = os.path.join(directory, "mount"), os.path.join(directory, "scratch")
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        self.state = os.path.join(self.mount, "state")
        self.place = Place(os.path.join(directory, "place"), program, self.state, port)

    def judge(self, wanted):
        """What is wrong with the state in the image: lost, corrupt, not serving, or nothing. `wanted` are the bodies
        that must be in it."""
        try:
            with mounted(self.image, self.mount):
                found = judge.journal(self.state, self.scratch)
                if missing := wanted - found:
                    return "lost", f"{len(missing)} of {len(wanted)}, one is {min(missing)[:60]}"
                again = webhook("again")
                with Gateway(self.place) as gateway:
                    if (answer := Sender(self.place).send(again)) != 200:
                        return "not serving", f"the answer is {answer}: {self.place.tail()}"
                    gateway.kill()
                if missing := (wanted | {again}) - judge.journal(self.state, self.scratch):
                    return "lost", f"{len(missing)} of {len(wanted) + 1} by the start after the cut"
        except judge.Corrupt as error:
            return "corrupt", str(error)
        except NotServing as error:
            return "not serving", str(error)
        except subprocess.CalledProcessError as error:
            return "corrupt", f"the file system: {error}"
        return None


def look(work):
    """Judges some cuts of a recording, in order; the findings."""
    played, cuts, directory, program, port, enough = work
    bench = Bench(directory, program, port)
    rewound = Rewound(played.image, Log(played.log), os.path.join(directory, "rewound.img"))
    findings, done = [], 0
    for cut in cuts:
        rewound.cut(cut.position, cut.way, random.Random(cut.seed), bench.image)
        wanted = played.answered_by(cut.position)
        done += 1
        if wrong := bench.judge(wanted):
            findings.append((*wrong, cut))
            if len(findings) >= enough:
                break
    rewound.close()
    return done, findings


def judge_cuts(played, cuts, options, enough=20):
    """Judges cuts in as many processes as there are jobs: how many, and what was found."""
    share = -(-len(cuts) // options.jobs)
    works = [
        (played, cuts[at : at + share], f"{options.work}/bench-{at // share}", options.program, PORT + 1 + at // share, enough)
        for at in range(0, len(cuts), share)
    ]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        outcomes = pool.map(look, works, chunksize=1)
    return sum(done for done, _ in outcomes), [finding for _, findings in outcomes for finding in findings]


def run(options, report):
    """Every scenario, then the proof that the harness sees a program that does not sync."""
    names = [options.scenario] if options.scenario else list(SCENARIOS)
    each = -(-options.amount("states") // len(names))
    for name in names:
        began = time.monotonic()
        played = play(name, options.program, f"{options.work}/played", options.seed)
        log = Log(played.log)
        cuts = choose(log, played.end, each, options.seed)
        done, findings = judge_cuts(played, cuts, options)
        flushes = len(log.flushes(played.end))
        text = f"{done} states of {played.end} records with {flushes} flushes, {len(played.acknowledged)} answered 200"
        report.add(f"power {name}", text, began, findings, kinds=("lost", "corrupt", "not serving"), made=done)
    if not options.scenario:
        prove(options, report)


def prove(options, report):
    """With syncs that are not done, or not made to last, something must be lost."""
    liar = f"{options.work}/liar.so"
    options.compile("liar.c", liar)
    for lie in ("skip", "no-flush"):
        began = time.monotonic()
        environment = {"LD_PRELOAD": liar, "LIAR": lie, "LIAR_EVERY": "10"}
        played = play("intake-1", options.program, f"{options.work}/played", options.seed, environment)
        cuts = choose(Log(played.log), played.end, 300, options.seed)
        done, findings = judge_cuts(played, cuts, options, enough=1)
        kinds = collections.Counter(kind for kind, _, _ in findings)
        missed = [] if findings else [("missed", "a wrong program was not caught", lie)]
        report.add(f"power, every tenth sync is a lie ({lie})", f"caught after {done} states: {dict(kinds)}", began, missed)
