-- The file of one gateway: what Belvo sent, what that led to, and what was fetched.
-- Times in *_at columns are milliseconds since 1970-01-01T00:00:00Z. Times inside bodies are as Belvo sent them.
-- Amounts stay inside the JSON text: they never pass through a binary float.

-- One row is one request that was answered 200, as received. Rows are never updated (a trigger refuses it): what cannot
-- be read today may be read after an upgrade. They leave by retention only, and never the newest, so that a seq is
-- never used twice. When a person's data must go (`erase`) the body is emptied and the row stays.
CREATE TABLE journal (
    -- The order of arrival on disk. Everything else points here.
    seq           INTEGER PRIMARY KEY,
    received_at   INTEGER NOT NULL,
    -- 0: the clock showed a time that cannot be right, as after power-on without a network.
    clock_trusted INTEGER NOT NULL CHECK (clock_trusted IN (0, 1)),
    -- Which run of the machine (boots), and the milliseconds since it was switched on by a clock that never jumps.
    boot          INTEGER NOT NULL,
    since_boot    INTEGER NOT NULL,
    -- The address the request came from.
    peer          TEXT NOT NULL CHECK (peer <> ''),
    -- CRC-32C of all other columns but seq: each integer as eight bytes, each text as its length and its bytes, least
    -- significant byte first. A bit that flips on the card is found by it.
    checksum      INTEGER NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),
    -- The bytes of the body. Empty for a probe of the URL, and after it was erased.
    body          TEXT NOT NULL
) STRICT;

CREATE TRIGGER journal_is_never_updated BEFORE UPDATE ON journal
WHEN NEW.body <> '' OR NEW.seq <> OLD.seq OR NEW.received_at <> OLD.received_at
  OR NEW.clock_trusted <> OLD.clock_trusted OR NEW.boot <> OLD.boot OR NEW.since_boot <> OLD.since_boot
  OR NEW.peer <> OLD.peer
  OR (OLD.body = '' AND NEW.checksum <> OLD.checksum)
BEGIN SELECT RAISE(ABORT, 'a journal row is never updated'); END;

CREATE TRIGGER journal_keeps_its_newest_row BEFORE DELETE ON journal
WHEN OLD.seq = (SELECT max(seq) FROM journal)
BEGIN SELECT RAISE(ABORT, 'the newest journal row must stay, or its seq would be used again'); END;

-- When the machine was switched on, as soon as its clock can be right: that tells when webhooks came that were received
-- before it was set.
CREATE TABLE boots (
    -- The first 48 bits of the kernel's boot id.
    boot     INTEGER PRIMARY KEY,
    began_at INTEGER NOT NULL
) STRICT;

-- The slim, parsed side of a journal row: what it was and what we decided. Written by planning, outlives the journal row.
-- Retention removes it much later, but never the newest about a link.
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY,
    -- From the journal row, when that has gone by retention; NULL as long as it is there.
    received_at  INTEGER,
    webhook_id   TEXT,
    type         TEXT,
    code         TEXT,
    process_type TEXT,
    link_id      TEXT,
    external_id  TEXT,
    request_id   TEXT,
    -- fetch: work was marked. delete: objects were marked as deleted. link, consent: the state of one was noted.
    -- payments-br (Colombia's have the same form), payments-mx: kept, never fetched. probe: nothing to do. erased: its
    -- content was removed. unknown: no rule for it, or no link to ask for; kept, and planned again when an upgrade has
    -- other rules.
    action       TEXT NOT NULL CHECK (action IN ('fetch', 'delete', 'link', 'consent', 'payments-br', 'payments-mx',
                                                 'probe', 'erased', 'unknown')),
    resource     TEXT,
    -- An earlier seq with the same webhook_id and the same body. For information: it was planned all the same.
    duplicate_of INTEGER CHECK (duplicate_of < seq),
    CHECK (action NOT IN ('fetch', 'delete') OR (resource IS NOT NULL AND link_id IS NOT NULL))
) STRICT;

-- What asks for a fetch is found by its work. Among all webhooks each link has a page of such an index of its own, and each
-- webhook would write one.
CREATE INDEX events_by_link ON events (link_id, seq) WHERE link_id IS NOT NULL AND action <> 'fetch';
CREATE INDEX events_alone ON events (seq) WHERE received_at IS NOT NULL;
CREATE INDEX events_unknown ON events (seq) WHERE action = 'unknown';

-- One row is one thing to keep fetched. Pending is derived (wanted > fetched) and so cannot disagree with itself; being
-- worked on is not stored at all, so a crash needs no repair. The work of a link that needs its user, or is gone, waits
-- for the row in links.
CREATE TABLE work (
    link_id          TEXT NOT NULL CHECK (link_id <> ''),
    -- What: a resource of objects, or links or consents for the record of one.
    resource         TEXT NOT NULL CHECK (resource <> ''),
    -- '' is the whole list of the link, anything else one object, or the list beneath it.
    object_id        TEXT NOT NULL DEFAULT '',
    -- The newest seq that asks for it, and the newest whose ask has been met.
    wanted           INTEGER NOT NULL,
    fetched          INTEGER NOT NULL DEFAULT 0,
    -- The newest seq that asks for the whole list and not only for what is new in it.
    whole            INTEGER NOT NULL DEFAULT 0 CHECK (whole <= wanted),
    -- The oldest seq whose ask has not been met: oldest wish first.
    asked            INTEGER NOT NULL CHECK (asked <= wanted),
    -- Failures in a row, the time of the next try, and what the last one said.
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at           INTEGER,
    -- failed: asking again would fail again; a newer webhook or `retry` lifts it.
    blocked_by       TEXT CHECK (blocked_by IN ('failed')),
    last_error       TEXT,
    error_class      TEXT,
    request_id       TEXT,
    -- The last complete fetch: when it began and ended, the objects it found, and how many of them were new or changed.
    fetch_started_at INTEGER,
    fetched_at       INTEGER,
    objects_found    INTEGER,
    objects_changed  INTEGER,
    -- When the last listing that agreed with its own count began, and the last of those that read the whole list.
    listed_at        INTEGER,
    whole_listed_at  INTEGER,
    -- Live objects in the file that the last complete listing did not have; they stay as they are ...
    missing          INTEGER,
    -- ... unless an operator asked that the next complete listing marks them as deleted.
    sweep            INTEGER NOT NULL DEFAULT 0 CHECK (sweep IN (0, 1)),
    -- Objects in a page, where a full page was too large or too slow.
    page_size        INTEGER CHECK (page_size > 0),
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
    -- seen is when its listing was last fetched whole, work.fetched_at. NULL when it was deleted before it was seen.
    body            TEXT,
    first_seen_at   INTEGER NOT NULL,
    last_changed_at INTEGER NOT NULL,
    -- The journal row that led to these bytes.
    seq             INTEGER NOT NULL,
    -- A tombstone: when, and the journal row that asked for it. Only a complete listing for a later row lifts it.
    deleted_at      INTEGER,
    deleted_by      INTEGER,
    PRIMARY KEY (resource, id),
    CHECK ((deleted_at IS NULL) = (deleted_by IS NULL)),
    CHECK (body IS NOT NULL OR deleted_at IS NOT NULL)
) STRICT;

CREATE INDEX objects_by_link ON objects (link_id, resource);
-- So that the live ones are counted without reading them: all that there are by their key, less these.
CREATE INDEX objects_deleted ON objects (resource) WHERE deleted_at IS NOT NULL;

-- The state of a link, with the record Belvo returns.
CREATE TABLE links (
    link_id          TEXT PRIMARY KEY CHECK (link_id <> ''),
    -- invalid, token_required, unconfirmed: needs its user; nothing of it is fetched until an event or the record says
    -- that it works again. deleted: Belvo has it no more; its rows stay. erased: its data was removed here and is never
    -- fetched again.
    status           TEXT NOT NULL
                     CHECK (status IN ('valid', 'invalid', 'token_required', 'unconfirmed', 'deleted', 'erased')),
    since_at         INTEGER NOT NULL,
    -- What said so: a webhook code, an error code, or 'record' for Belvo's record.
    reason           TEXT NOT NULL,
    -- The newest journal row that had a say.
    seq              INTEGER NOT NULL,
    -- From the record, as Belvo sent it.
    institution      TEXT,
    last_accessed_at TEXT,
    body             TEXT
) STRICT, WITHOUT ROWID;

-- The state of a consent, with the record Belvo returns.
CREATE TABLE consents (
    consent_id  TEXT PRIMARY KEY CHECK (consent_id <> ''),
    link_id     TEXT,
    status      TEXT NOT NULL CHECK (status IN ('authorised', 'awaiting', 'expiring', 'expired', 'revoked', 'unknown')),
    since_at    INTEGER NOT NULL,
    -- What said so: a webhook code, or 'record' for Belvo's record.
    reason      TEXT NOT NULL,
    -- The newest journal row that had a say.
    seq         INTEGER NOT NULL,
    -- When it ends, as Belvo sent it.
    due_date    TEXT,
    -- unrecoverable, unavailable: some of what the user shares cannot be read, for good or for now.
    limited     TEXT CHECK (limited IN ('unrecoverable', 'unavailable')),
    -- `data` of the webhook that asked for its renewal, and the page where its user renews it, without the access token.
    renewal     TEXT,
    renewal_url TEXT,
    body        TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX consents_by_link ON consents (link_id);

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

-- One row is one removal of a person's data by `erase`: that it was done, and how much went.
CREATE TABLE erasures (
    erasure     INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    link_id     TEXT NOT NULL,
    objects     INTEGER NOT NULL DEFAULT 0,
    consents    INTEGER NOT NULL DEFAULT 0,
    deliveries  INTEGER NOT NULL DEFAULT 0,
    -- When nothing was left any more, neither in free pages nor in the WAL. NULL: it is under way, or was interrupted and
    -- is taken up again.
    finished_at INTEGER
) STRICT;

-- One row is one damaged file that was set aside at a start, and how far what can be read of it has been copied into this
-- one. Its journal rows keep their seq; what is received from then on has one above newest_seq.
CREATE TABLE salvages (
    -- Its name in the state directory.
    file        TEXT PRIMARY KEY CHECK (file <> ''),
    at          INTEGER NOT NULL,
    -- What was wrong with it.
    why         TEXT NOT NULL,
    -- No journal row in it can have a larger seq.
    newest_seq  INTEGER NOT NULL,
    -- What is copied: state (what must not be fetched again, before anything is), content, plans (webhooks that were not
    -- planned when the file was damaged are), over.
    step        TEXT NOT NULL DEFAULT 'state' CHECK (step IN ('state', 'content', 'plans', 'over')),
    -- The page, or in the last step the seq, where the step goes on.
    next        INTEGER NOT NULL DEFAULT 1,
    -- Rows that were copied, how many of them are webhooks, and places where one should be and none can be read.
    copied      INTEGER NOT NULL DEFAULT 0,
    webhooks    INTEGER NOT NULL DEFAULT 0,
    unreadable  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- planned_to: the newest seq that was planned. oldest_reader: the lowest version of this schema a program must know to
-- work with this file. views: which text of the views is in place. catalog: the webhooks that were known to the program
-- that planned last. alive_at: when the gateway last noted that it runs. away_from: since when webhooks may be missing, while
-- nobody has made up for it. certificate_until: until when the listener's certificate is valid. believed_at: what the clock showed when retention last went by it. scrubbed: free pages hold
-- nothing any more. refused.*: counters that outlive a restart.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta VALUES ('planned_to', 0), ('oldest_reader', 1);
