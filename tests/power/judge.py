"""Looks at the file that a power cut or a kill has left, with SQLite itself."""

import os
import shutil
import sqlite3


class Corrupt(Exception):
    """SQLite finds fault with the file."""


def journal(state, scratch):
    """The bodies in the journal of a state directory. Works on a copy: SQLite changes what it recovers, and the program
    is to find the file as it was left."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    for name in ("gateway.db", "gateway.db-wal"):
        if os.path.exists(os.path.join(state, name)):
            shutil.copyfile(os.path.join(state, name), os.path.join(scratch, name))
    path = os.path.join(scratch, "gateway.db")
    if not os.path.exists(path):
        return set()
    file = sqlite3.connect(path)
    try:
        (said,) = file.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise Corrupt(said)
        if not file.execute("SELECT 1 FROM sqlite_schema WHERE name = 'journal'").fetchone():
            return set()
        return {body.encode() for (body,) in file.execute("SELECT body FROM journal")}
    except sqlite3.DatabaseError as error:
        raise Corrupt(str(error)) from error
    finally:
        file.close()


def value(state, sql):
    """The one value of a query to a file that is in use, or None."""
    file = sqlite3.connect(f"file:{state}/gateway.db?mode=ro", uri=True, timeout=30)
    try:
        found = file.execute(sql).fetchone()
        return found[0] if found else None
    finally:
        file.close()
