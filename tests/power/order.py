"""Order: for each request the bytes of its row are written, then fdatasync has returned 0, then the first byte of the
answer leaves. Seen by strace, over one kept connection, one request after the other. A program whose syncs are lies
must not pass."""

import collections
import os
import re
import signal
import time

from gateway import PATIENCE, Gateway, Place, Sender, webhook
from medium import make_image, mounted
from recording import PORT

CALLS = "pwrite64,fdatasync,read,readv,recvfrom,sendto,sendmsg,write,writev"
LINE = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\((?P<descriptor>\d+<(?P<what>[^>]*(?:->[^>]*)?)>)?")
RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. (?P<call>\w+) resumed>.*= (?P<result>-?\d+)")
NAME = re.compile(r"order-\d+-")

Event = collections.namedtuple("Event", "what name")


def events(trace):
    """What happened, in order: `received`, `sent` (when the call began), `written` with the name of the webhook, and
    `synced` (when the call had returned 0)."""
    begun = {}
    for line in trace:
        if resumed := RESUMED.match(line):
            kind = begun.pop(resumed["thread"], None)
            if kind == "fdatasync" and resumed["result"] == "0":
                yield Event("synced", None)
            if kind == "receive" and int(resumed["result"]) > 0:
                yield Event("received", None)
            continue
        said = LINE.match(line)
        if not said or not said["descriptor"]:
            continue
        result, unfinished = line.rstrip().rsplit("= ", 1)[-1], line.rstrip().endswith("<unfinished ...>")
        socket, wal = said["what"].startswith("TCP"), said["what"].endswith("gateway.db-wal")
        if said["call"] == "pwrite64" and wal:
            for name in dict.fromkeys(NAME.findall(line)):
                yield Event("written", name)
        elif said["call"] == "fdatasync" and wal:
            if unfinished:
                begun[said["thread"]] = "fdatasync"
            elif result == "0":
                yield Event("synced", None)
        elif said["call"] in ("read", "readv", "recvfrom") and socket:
            if unfinished:
                begun[said["thread"]] = "receive"
            elif result.isdigit() and result != "0":
                yield Event("received", None)
        elif said["call"] in ("sendto", "sendmsg", "write", "writev") and socket:
            yield Event("sent", None)


def violations(seen, names):
    """The requests that were not received, written, synced and answered in this order."""
    wrong, at = [], 0
    for name in names:
        # A row is written when its page goes to the WAL; the page is written again with the next row.
        for what in ("received", "written", "synced", "sent"):
            passed = at
            while at < len(seen) and seen[at] != Event(what, name if what == "written" else None):
                at += 1
            early = [event.what for event in seen[passed:at] if event.what == "sent" and what in ("written", "synced")]
            if early or at == len(seen):
                wrong.append(("order", "answered too early" if early else f"never {what}", name))
                at = passed
                break
            at += 1
    return wrong


def traced(place, requests, trace, environment=None):
    """Sends the requests to a program that is traced; their names."""
    names = [f"order-{number}-" for number in range(requests)]
    under = ["strace", "-D", "-f", "--seccomp-bpf", "-q", "-yy", "-s", "20000", "-e", f"trace={CALLS}", "-o", trace]
    with Gateway(place, under, environment) as gateway:
        sender = Sender(place)
        # The first answer on a connection comes with what TLS has to say.
        for name in ["warm-up", *names]:
            if (answer := sender.send(webhook(name))) != 200:
                raise RuntimeError(f"the answer is {answer}: {place.tail()}")
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(PATIENCE)
    return names


def complete(trace):
    """The lines of a trace; strace may still write the last ones."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with open(trace, errors="replace") as file:
            lines = file.readlines()
        if lines and "+++ exited" in lines[-1]:
            break
        time.sleep(0.05)
    return lines


def watch(options, requests, tls=False, environment=None):
    """What was wrong with so many requests."""
    image, mount = os.path.join(options.work, "order.img"), os.path.join(options.work, "order")
    make_image(image, 96)
    with mounted(image, mount):
        state = os.path.join(mount, "state")
        os.mkdir(state)
        place = Place(os.path.join(options.work, "order-place"), options.program, state, PORT, tls=tls)
        trace = os.path.join(options.work, "trace")
        names = traced(place, requests, trace, environment)
        seen = list(events(complete(trace)))
    os.unlink(image)
    begin = seen.index(Event("written", "order-0-"))
    while seen[begin - 1].what != "sent":
        begin -= 1
    return violations(seen[begin:], names)


def run(options, report):
    requests = options.amount("requests")
    for name, tls in (("plain", False), ("TLS", True)):
        began = time.monotonic()
        findings = watch(options, requests, tls)
        report.add(f"order, {name}", f"{requests - len(findings)} of {requests} requests in order", began, findings)
    began = time.monotonic()
    wrong = len(watch(options, 10, environment=options.liar("skip")))
    missed = [] if wrong == 10 else [("missed", "a wrong program was not caught", "order")]
    report.add("order, every sync is a lie", f"caught for {wrong} of 10 requests", began, missed)
