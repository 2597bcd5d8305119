"""Looks at the file that a power cut or a kill has left, with SQLite itself."""

import json
import os
import shutil
import sqlite3
import time

from gateway import PATIENCE, NotServing


FINISHED = """SELECT webhook_id FROM events JOIN work USING (link_id, resource)
              WHERE fetched >= seq AND seq NOT IN (SELECT seq FROM journal)"""


class Corrupt(Exception):
    """SQLite finds fault with the file."""


def missing(wanted, state, scratch, leaves=False):
    """Of these bodies, those that the journal of a state directory does not have. With `leaves`, those may be missing
    whose event says that what they led to was fetched."""
    bodies, finished = kept(state, scratch)
    lacking = wanted - bodies
    return {body for body in lacking if not (leaves and json.loads(body)["webhook_id"] in finished)}


def kept(state, scratch):
    """The bodies in the journal, and the names of those that have left it finished. Works on a copy: SQLite changes
    what it recovers, and the program is to find the file as it was left."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    for name in ("gateway.db", "gateway.db-wal"):
        if os.path.exists(os.path.join(state, name)):
            shutil.copyfile(os.path.join(state, name), os.path.join(scratch, name))
    path = os.path.join(scratch, "gateway.db")
    if not os.path.exists(path):
        return set(), set()
    file = sqlite3.connect(path)
    try:
        (said,) = file.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise Corrupt(said)
        if not file.execute("SELECT 1 FROM sqlite_schema WHERE name = 'journal'").fetchone():
            return set(), set()
        bodies = {body.encode() for (body,) in file.execute("SELECT body FROM journal")}
        return bodies, {name for (name,) in file.execute(FINISHED)}
    except sqlite3.DatabaseError as error:
        raise Corrupt(str(error)) from error
    finally:
        file.close()


def until(place, sql, wanted):
    """Waits until a query's one value, in a file that is in use, is this."""
    deadline = time.monotonic() + PATIENCE
    file = sqlite3.connect(f"file:{place.state}/gateway.db?mode=ro", uri=True, timeout=PATIENCE)
    try:
        while (found := file.execute(sql).fetchone()[0]) != wanted:
            if time.monotonic() > deadline:
                raise NotServing(f"{sql}: {found} and not {wanted}; {place.tail()}")
            time.sleep(0.02)
    finally:
        file.close()
