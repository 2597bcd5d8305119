"""Power: the gateway works on a disk that is recorded. Then the disk is put together again as a power cut at some
moment would have left it, thousands of times; each time everything that had been answered 200 must be there and the
program must serve again."""

import collections
import dataclasses
import multiprocessing
import os
import random
import shutil
import time

from bench import Bench
from medium import WAYS, Log, Rewound
from recording import PORT, play
from scenarios import SCENARIOS

# Of the cuts of a scenario with something to fetch, one in so many is followed to the end of all fetches.
TO_THE_END_EVERY = 10


@dataclasses.dataclass
class Cut:
    """A moment at which the power is lost, and what the disk does then with what it was not made to keep."""

    position: int
    way: str
    seed: int = 0


def choose(log, end, count, seed):
    """Half of the cuts are just before a flush or just after it, each flush once before any has its turn again; half
    are anywhere."""
    chance = random.Random(seed)
    flushes = log.flushes(end)
    chance.shuffle(flushes)
    turns = [(at, (number + turn) % 4) for turn in range(4) for number, at in enumerate(flushes)]
    # After a flush there is nothing that could be torn.
    cuts = [Cut(at, WAYS[way]) if way < 3 else Cut(at + 1, "lost") for at, way in turns[: count // 2]]
    while len(cuts) < count:
        cuts.append(Cut(chance.randint(1, end), chance.choice(WAYS)))
    for cut in cuts:
        cut.seed = chance.getrandbits(32)
    return sorted(cuts, key=lambda cut: cut.position)


@dataclasses.dataclass
class Share:
    """The cuts that one process looks at, until it has found `enough`."""

    played: object
    cuts: list
    bench: tuple
    enough: int
    keep: str | None

    def look(self):
        """Judges them in order: how many, and the findings. Keeps the disks of these in the directory `keep`."""
        bench = Bench(*self.bench)
        rewound = Rewound(self.played.image, Log(self.played.log), os.path.join(bench.directory, "rewound.img"))
        findings, done = [], 0
        while done < len(self.cuts) and len(findings) < self.enough:
            cut = self.cuts[done]
            done += 1
            rewound.cut(cut.position, cut.way, random.Random(cut.seed), bench.image)
            to_the_end = bench.objects > 0 and done % TO_THE_END_EVERY == 0
            if wrong := bench.judge(self.played.answered_by(cut.position), to_the_end):
                findings.append((*wrong, cut))
                if self.keep:
                    # The program has worked on it meanwhile.
                    rewound.cut(cut.position, cut.way, random.Random(cut.seed), bench.image)
                    shutil.copyfile(bench.image, os.path.join(self.keep, f"{cut.position}-{cut.way}.img"))
        rewound.close()
        return done, findings


def judge_cuts(played, cuts, options, scenario, enough=20, keep=None):
    """Judges cuts in as many processes as there are jobs: how many, and what was found."""
    size = -(-len(cuts) // options.jobs)
    shares = []
    for job, at in enumerate(range(0, len(cuts), size)):
        bench = (f"{options.work}/bench-{job}", options.program, PORT + 1 + job, scenario.belvo, scenario.leaves)
        shares.append(Share(played, cuts[at : at + size], bench, enough, keep))
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        outcomes = pool.map(Share.look, shares, chunksize=1)
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
        done, findings = judge_cuts(played, cuts, options, SCENARIOS[name], keep=options.keep)
        flushes = len(log.flushes(played.end))
        text = f"{done} states of {played.end} records with {flushes} flushes, {len(played.acknowledged)} answered 200"
        report.add(f"power {name}", text, began, findings, kinds=("lost", "corrupt", "not serving"), made=done)
    if not options.scenario:
        prove(options, report)


def prove(options, report):
    """With syncs that are not done, or not made to last, something must be lost."""
    for lie in ("skip", "no-flush"):
        began = time.monotonic()
        played = play("intake-1", options.program, f"{options.work}/played", options.seed, options.liar(lie, every=10))
        cuts = choose(Log(played.log), played.end, 300, options.seed)
        done, findings = judge_cuts(played, cuts, options, SCENARIOS["intake-1"], enough=1)
        kinds = collections.Counter(kind for kind, _, _ in findings)
        missed = [] if findings else [("missed", "a wrong program was not caught", lie)]
        text = f"caught within {done} states: {dict(kinds)}"
        report.add(f"power, every tenth sync is a lie ({lie})", text, began, missed)
