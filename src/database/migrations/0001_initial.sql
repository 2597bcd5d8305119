-- The file of one gateway: what Belvo sent, what that led to, and what was fetched.
-- Times in *_at columns are milliseconds since 1970-01-01T00:00:00Z. Times inside bodies are as Belvo sent them.
-- Amounts stay inside the JSON text: they never pass through a binary float.

-- One row is one request that was answered 200, as received. Rows are never updated (a trigger refuses it): what cannot
-- be read today may be read after an upgrade. They leave by retention only, and never the newest, so that a seq is
-- never used twice.
CREATE TABLE journal (
    -- The order of arrival on disk. Everything else points here.
    seq           INTEGER PRIMARY KEY,
    received_at   INTEGER NOT NULL,
    -- 0: the clock showed a time that cannot be right, as after power-on without a network.
    clock_trusted INTEGER NOT NULL CHECK (clock_trusted IN (0, 1)),
    -- The address the request came from.
    peer          TEXT NOT NULL CHECK (peer <> ''),
    -- The bytes of the body. Empty for a probe of the URL.
    body          TEXT NOT NULL
) STRICT;

CREATE TRIGGER journal_is_never_updated BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'a journal row is never updated'); END;

CREATE TRIGGER journal_keeps_its_newest_row BEFORE DELETE ON journal
WHEN OLD.seq = (SELECT max(seq) FROM journal)
BEGIN SELECT RAISE(ABORT, 'the newest journal row must stay, or its seq would be used again'); END;

-- The slim, parsed side of a journal row: what it was and what we decided. Written by planning, outlives the journal row.
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY,
    webhook_id   TEXT,
    type         TEXT,
    code         TEXT,
    process_type TEXT,
    link_id      TEXT,
    external_id  TEXT,
    request_id   TEXT,
    -- fetch: work was marked. probe: nothing to do. unknown: no row in the catalog, or no link to ask for; kept, and
    -- planned again when an upgrade knows it.
    action       TEXT NOT NULL CHECK (action IN ('fetch', 'probe', 'unknown')),
    resource     TEXT,
    -- An earlier seq with the same webhook_id and the same body. For information: it was planned all the same.
    duplicate_of INTEGER CHECK (duplicate_of < seq),
    CHECK (action <> 'fetch' OR (resource IS NOT NULL AND link_id IS NOT NULL))
) STRICT;

-- One row is one thing to keep fetched. Pending is derived (wanted > fetched) and so cannot disagree with itself; being
-- worked on is not stored at all, so a crash needs no repair.
CREATE TABLE work (
    link_id          TEXT NOT NULL CHECK (link_id <> ''),
    resource         TEXT NOT NULL CHECK (resource <> ''),
    -- '' is the whole list of the link.
    object_id        TEXT NOT NULL DEFAULT '',
    -- The newest seq that asks for it, and the newest whose ask has been met.
    wanted           INTEGER NOT NULL,
    fetched          INTEGER NOT NULL DEFAULT 0,
    -- The oldest seq whose ask has not been met: oldest wish first.
    asked            INTEGER NOT NULL CHECK (asked <= wanted),
    -- Failures in a row, the time of the next try, and what the last one said.
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at           INTEGER,
    -- failed: asking again would fail again. link: the link needs its user. A newer webhook lifts both.
    blocked_by       TEXT CHECK (blocked_by IN ('failed', 'link')),
    last_error       TEXT,
    error_class      TEXT,
    request_id       TEXT,
    -- The last complete fetch: when it began and ended, the objects it found, and how many of them were new or changed.
    fetch_started_at INTEGER,
    fetched_at       INTEGER,
    objects_found    INTEGER,
    objects_changed  INTEGER,
    PRIMARY KEY (link_id, resource, object_id),
    -- Nothing ever waits for nothing.
    CHECK (wanted <= fetched OR due_at IS NOT NULL OR blocked_by IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX work_by_wish ON work (asked) WHERE wanted > fetched AND blocked_by IS NULL;
CREATE INDEX work_by_due ON work (due_at) WHERE wanted > fetched AND blocked_by IS NULL;

-- One Belvo object. Ids are unique within a resource only.
CREATE TABLE objects (
    resource        TEXT NOT NULL CHECK (resource <> ''),
    id              TEXT NOT NULL CHECK (id <> ''),
    -- The link it was asked for.
    link_id         TEXT NOT NULL CHECK (link_id <> ''),
    -- The bytes Belvo sent. An object whose bytes did not change is not written again (flash wear): when it was last
    -- seen is when its listing was last fetched whole, work.fetched_at.
    body            TEXT NOT NULL,
    first_seen_at   INTEGER NOT NULL,
    last_changed_at INTEGER NOT NULL,
    -- The journal row that led to these bytes.
    seq             INTEGER NOT NULL,
    -- A tombstone: when, and the journal row that asked for it.
    deleted_at      INTEGER,
    deleted_by      INTEGER,
    PRIMARY KEY (resource, id),
    CHECK ((deleted_at IS NULL) = (deleted_by IS NULL))
) STRICT;

CREATE INDEX objects_by_link ON objects (link_id, resource);

-- The state of a link, with the record Belvo returns.
CREATE TABLE links (
    link_id     TEXT PRIMARY KEY,
    status      TEXT NOT NULL CHECK (status IN ('valid', 'invalid', 'token_required', 'unconfirmed', 'deleted')),
    since_at    INTEGER NOT NULL,
    -- The journal row that said so.
    seq         INTEGER,
    institution TEXT,
    body        TEXT
) STRICT, WITHOUT ROWID;

-- The state of a consent, with the record Belvo returns.
CREATE TABLE consents (
    consent_id TEXT PRIMARY KEY,
    link_id    TEXT,
    status     TEXT NOT NULL CHECK (status IN ('authorised', 'expiring', 'expired', 'revoked', 'unknown')),
    since_at   INTEGER NOT NULL,
    -- As Belvo sent it.
    due_date   TEXT,
    seq        INTEGER,
    body       TEXT
) STRICT, WITHOUT ROWID;

-- Something a person should know. Open until it is over; at most one open row for the same kind and subject.
CREATE TABLE problems (
    problem    INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    -- What it is about: a link and resource, an address, or '' for the gateway itself.
    subject    TEXT NOT NULL,
    -- 1 stops the gateway's work, 2 stops some of it, 3 is worth knowing.
    severity   INTEGER NOT NULL CHECK (severity BETWEEN 1 AND 3),
    since_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    count      INTEGER NOT NULL DEFAULT 1 CHECK (count > 0),
    -- What happened, and what to do.
    text       TEXT NOT NULL CHECK (text <> ''),
    next_step  TEXT NOT NULL CHECK (next_step <> ''),
    -- The first bytes of a body that could not be read.
    evidence   BLOB,
    closed_at  INTEGER
) STRICT;

CREATE UNIQUE INDEX problems_open ON problems (kind, subject) WHERE closed_at IS NULL;

-- The last refused requests and connections, without bodies. A ring: the oldest go first. One row may stand for many
-- alike within a few seconds.
CREATE TABLE refusals (
    refusal INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    peer    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    -- The HTTP status of the answer; NULL when the connection was closed before any byte was read.
    status  INTEGER,
    count   INTEGER NOT NULL DEFAULT 1 CHECK (count > 0)
) STRICT;

-- planned_to: the newest seq that was planned. oldest_reader: the lowest version of this schema a program must know to
-- work with this file. views: which text of the views is in place. catalog: the webhooks that were known to the program
-- that planned last. refused.*: counters that outlive a restart.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta VALUES ('planned_to', 0), ('oldest_reader', 1);
