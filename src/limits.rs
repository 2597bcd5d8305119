//! Every bound the gateway has: one constant each, its unit in its name, its reason above it.
//! Nothing here is configurable; a bound that an installer may move is a configuration key with its default here.

use std::ops::RangeInclusive;
use std::time::Duration;

// The intake.

/// Connections served at once, unless configured otherwise. Belvo needs a handful; 64 kept-alive ones from one address must
/// fit with as many again that come and go, and each costs some 30 KiB with TLS.
pub const CONNECTIONS_MAX: usize = 256;
/// What may be configured: fewer leave no room to tell Belvo from who crowds it out, more do not fit under the unit's
/// `LimitNOFILE=` of 4,096.
pub const CONNECTIONS_MAX_RANGE: RangeInclusive<usize> = 16..=3_072;
/// One source gets one part in so many of them, so that no source can take the seats of another.
pub const SOURCE_PART: usize = 2;
/// Requests on one connection; the last answer says that it is the last. Nothing that was agreed on at the beginning of a
/// connection should hold for ever.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;
/// From accept to the end of the TLS handshake.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(3);
/// For one request head, and for the next one on a kept connection.
pub const HEAD_WAIT: Duration = Duration::from_secs(5);
/// From the end of the head to the end of the body.
pub const BODY_WAIT: Duration = Duration::from_secs(3);
/// From the first byte of a request to its answer, whatever the answer. Belvo gives up after five seconds
/// (docs/belvo.md, Delivery); the rest is for the network.
pub const ANSWER_WAIT: Duration = Duration::from_secs(4);
/// Of that, what is left for the commit when a body comes at the last moment.
pub const COMMIT_WAIT: Duration = Duration::from_millis(500);
/// One body. The largest one expected, a deletion list of 10,000 ids, has 0.4 MiB.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// All bodies being read or waiting for their commit, together: ten of the largest expected, and a sixth of the
/// memory that the process may have; who would go beyond it is answered 503.
pub const BODIES_KIB_MAX: usize = 4 * 1024;
/// One request head, and hyper's read buffer with it: more is answered 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines in one head: more is answered 431.
pub const HEADERS_MAX: usize = 64;
/// Seconds named in `Retry-After` with every 503. Belvo's own schedule is not published; this is advice only.
pub const RETRY_AFTER_SECS: u32 = 30;
/// For the peer to take an answer, of some hundred bytes.
pub const TAKE_WAIT: Duration = Duration::from_secs(3);
/// How long a connection whose request body was not wanted is still read, so that the peer sees the answer and not a reset.
pub const LINGER_WAIT: Duration = Duration::from_secs(1);
/// How many bytes of such a body are read and thrown away at most.
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The line of the PROXY protocol in front of a connection, which a proxy sends at once.
pub const PROXY_LINE_WAIT: Duration = Duration::from_secs(3);
/// Such a line. Version 1 has 107 bytes at most, version 2 as many and what load balancers add to them, some hundreds.
pub const PROXY_LINE_BYTES_MAX: usize = 2 * 1024;
/// Trusted proxies in a row that a header may name. Nobody has more than a few.
pub const HOPS_MAX: usize = 16;
/// A look at a refused connection, for the drift alarm, from accept to its end. It is over before the next one begins.
pub const LOOK_WAIT: Duration = Duration::from_secs(5);
/// Between two such looks: four a minute, so that a flood costs nothing, and some of a webhook's repetitions meet one.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Connections that are looked at at once: one look is over before the next begins.
pub const LOOKED_AT_MAX: usize = 1;
/// Between two looks at the same address, so that one stranger does not use them up.
pub const LOOK_SAME_AGAIN: Duration = Duration::from_secs(60);
/// Addresses remembered for that: as many as are looked at in this time, and room to spare.
pub const LOOKED_AT_KEPT: usize = 8;
/// Pause of the accept loop when the process is out of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections the kernel queues before `accept`: what a flood of thousands a second brings while this thread waits for its
/// turn. One that does not fit is tried again by its sender after a second, Belvo's like any other.
pub const BACKLOG: u32 = 1_024;
/// After SIGTERM, for a connection that is open to end its handshake, and then to begin its last request: two round trips
/// to another continent. Whoever had just connected, or sends one request after the other, is answered.
pub const LAST_REQUEST_WAIT: Duration = Duration::from_millis(500);
/// From SIGTERM to the end of the last connection that is still being answered.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Between two looks at whether the certificate's files have changed, where no change is told of or the last one could not
/// be used: two calls of the system, and a renewed certificate is used long before the old one ends.
pub const CERTIFICATE_LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same where changes are told of: for what another machine changes on a network share, and for the days that pass.
pub const CERTIFICATE_LOOK_ANYWAY: Duration = Duration::from_secs(6 * 3600);
/// Files that have changed are read when they have not changed again for this long: a program that copies them is done.
pub const CERTIFICATE_SETTLED: Duration = Duration::from_secs(2);
/// A certificate that ends sooner than this should have been renewed: clients renew those of 90 days at 30 ...
pub const CERTIFICATE_ENDS: Duration = Duration::from_secs(21 * 24 * 3600);
/// ... and one that ends sooner than this is urgent.
pub const CERTIFICATE_ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Strangers whose hello is looked at, all at once, while a challenge is open: an authority comes from a handful of places,
/// and tries again.
pub const CHALLENGES_AT_ONCE: usize = 2;
/// For the hello and the handshake of such a stranger.
pub const CHALLENGE_WAIT: Duration = Duration::from_secs(3);
/// Bytes of a hello of a challenge, which has one name and one protocol.
pub const CHALLENGE_HELLO_BYTES_MAX: usize = 4 * 1024;
/// One request to an ACME server, from its first byte to the last byte of the answer.
pub const ACME_REQUEST_WAIT: Duration = Duration::from_secs(30);
/// One answer of an ACME server; a certificate chain has a few kilobytes.
pub const ACME_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// All of asking for a certificate, from the account to the chain.
pub const ACME_WAIT: Duration = Duration::from_secs(300);
/// Until a certificate is asked for again, when it failed; doubled each time. Let's Encrypt takes five failures an hour ...
pub const ACME_FAILED_WAIT: Duration = Duration::from_secs(15 * 60);
/// ... up to this, which leaves a month of certificates with 90 days more than fifty tries.
pub const ACME_FAILED_WAIT_MAX: Duration = Duration::from_secs(12 * 3600);
/// Between two certificates at least, however short they are valid.
pub const ACME_AGAIN: Duration = Duration::from_secs(3600);
/// Between two looks at whether it is time to renew, since a clock may be set meanwhile.
pub const ACME_LOOK_EVERY: Duration = Duration::from_secs(600);

// Notices: what the intake has to say.

/// Notices kept in memory until they are written; more are counted and dropped.
pub const NOTICES_MAX: usize = 512;
/// At most one write of notices to the file in this time, however many there are (flash wear) ...
pub const NOTICES_WAIT: Duration = Duration::from_secs(2);
/// ... and in this time when all of them are about strangers: each writes eight pages at worst, a minute's flood some
/// twenty.
pub const STRANGERS_WAIT: Duration = Duration::from_secs(30);
/// Until the next try when they could not be written.
pub const NOTICES_FAILED_WAIT: Duration = Duration::from_secs(10);
/// Rows about refused requests in one such write; the rest is only counted.
pub const REFUSALS_PER_WRITE_MAX: usize = 64;
/// Bytes of an unreadable body that are kept with its problem.
pub const EVIDENCE_BYTES_MAX: usize = 2 * 1024;
/// Refused requests kept in the file, oldest gone first.
pub const REFUSALS_KEPT: i64 = 1_000;
/// What was said is looked at this often while there is more: a flood wakes the drain's thread ten times a second, not
/// thousands of times.
pub const NOTICES_GATHER: Duration = Duration::from_millis(100);
/// Log lines about single refused requests in one [`REFUSALS_SUMMED_EVERY`] ...
pub const REFUSAL_LINES_MAX: usize = 10;
/// ... and after it one line with the number of all others.
pub const REFUSALS_SUMMED_EVERY: Duration = Duration::from_secs(60);

// The writer.

/// Appends that wait for the writer. More are answered 503: each one is a request that holds a connection.
pub const APPENDS_QUEUED_MAX: usize = 512;
/// Appends come as long as the last one is no longer ago: then others leave them time between two changes.
pub const APPENDS_COME: Duration = Duration::from_secs(1);
/// Changes that wait for the writer; who wants more waits.
pub const CHANGES_QUEUED_MAX: usize = 16;
/// Appends in one commit.
pub const APPENDS_PER_COMMIT_MAX: usize = 256;
/// The longest time a commit is held back for appends that are expected, an eighth of the last commit's time at most: with
/// more, fewer commits write a little less, and with 64 connections a tenth fewer are answered.
pub const GATHER_WAIT_MAX: Duration = Duration::from_millis(5);
/// A page of the file. Small ones cost a lone webhook less flash (docs/performance.md), and large objects little more.
pub const PAGE_BYTES: i64 = 2_048;
/// Pages that each connection keeps in memory, in KiB: the kernel keeps the others.
pub const CACHE_KIB: i64 = 256;
/// WAL pages after which they are copied into the file, beside the commits (16 MiB), so that the WAL can start over, and
/// again after as many more: a page that changes often is copied once for all of them.
pub const WAL_PAGES_MAX: i32 = 8_000;
/// What came meanwhile is copied as well, beside the commits that follow, in so many passes at most, during the last of which
/// changes wait ...
pub const WAL_PASSES_MAX: u32 = 4;
/// ... until no more than this is left, which is copied with all commits waiting, for some milliseconds.
pub const WAL_PAGES_LEFT: i32 = 256;
/// What was copied is brought to the disk in parts of the file, each of which takes about so long: a commit that is synced
/// meanwhile waits for it. When it took longer the next part is half as large, otherwise twice ...
pub const CHECKPOINT_STEP_WAIT: Duration = Duration::from_millis(1);
/// ... but no smaller than this, a few pages of the kernel's ...
pub const CHECKPOINT_STEP_BYTES_MIN: u64 = 16 * 1024;
/// ... and no larger: most of a large file has nothing to write, and what comes then may be all of the next part.
pub const CHECKPOINT_STEP_BYTES_MAX: u64 = 256 * 1024;
/// The rest after each part lasts as long as it took, and this long at most.
pub const CHECKPOINT_REST_MAX: Duration = Duration::from_millis(50);
/// Changes wait for the copying this long at most, which a card that takes longer goes on with: a watchdog's pass through the
/// writer is a change.
pub const CHANGES_HELD_MAX: Duration = Duration::from_secs(5);
/// When nothing was to be done for this long ...
pub const QUIET_WAIT: Duration = Duration::from_secs(1);
/// ... so many WAL pages are enough to be copied: what the file grows by then has room where the ballast was.
pub const WAL_PAGES_QUIET: i32 = WAL_PAGES_MAX / 4;
/// The pause before the WAL is copied again of which the disk refused a part.
pub const COPY_AGAIN_WAIT: Duration = Duration::from_secs(5);
/// What stands before the first page of a WAL (<https://sqlite.org/fileformat2.html>, "The Write-Ahead Log") ...
pub const WAL_HEAD_BYTES: u64 = 32;
/// ... and a page in it, with what stands before each.
pub const WAL_PAGE_BYTES: u64 = PAGE_BYTES as u64 + 24;
/// WAL pages that were committed without a sync and not written yet, from which on they are: a quarter of a mebibyte.
pub const WAL_PAGES_BEGIN: i32 = 128;
/// The WAL is made this large beforehand, so that a commit changes no size: room for a part of the pages that it may have,
/// since all of it is written at each start.
pub const WAL_BYTES: u64 = WAL_HEAD_BYTES + WAL_PAGES_MAX as u64 / 4 * WAL_PAGE_BYTES;
/// In steps of so many bytes, while nothing waits.
pub const WAL_STEP_BYTES: u64 = 256 * 1024;
/// WAL pages after which all of them are copied and the WAL is emptied while the disk has too little room: what is in the WAL
/// can be copied as long as there is some.
pub const WAL_PAGES_SHORT_MAX: i32 = 128;
/// What the file may still have to grow by when the WAL is copied, about.
pub const WAL_BYTES_MAX: u64 = WAL_PAGES_MAX as u64 * PAGE_BYTES as u64;
/// How long the writer may fail without one success before the process ends, so that systemd starts it afresh. Failing
/// for want of room, or of a file system that can be written, does not count: that has nothing to gain from a start.
pub const WRITER_FAILING_MAX: Duration = Duration::from_secs(60);
/// Failures further apart than this are not in a row. A watchdog passes through the writer more often.
pub const WRITER_FAILING_GAP: Duration = Duration::from_secs(30);
/// The room that the disk keeps for the drain, pruning and operators, unless configured otherwise: what a day of much
/// fetching stores, on a card of some gigabytes ...
pub const DISK_FLOOR_MIB: u64 = 64;
/// ... and what may be configured: a terabyte is an error of typing.
pub const DISK_FLOOR_MIB_RANGE: RangeInclusive<u64> = 1..=1024 * 1024;
/// The ballast, unless configured otherwise: room for what a quiet gateway has in its WAL, and to spare ...
pub const BALLAST_MIB: u64 = 8;
/// ... and what may be configured; none at 0.
pub const BALLAST_MIB_RANGE: RangeInclusive<u64> = 0..=1024;
/// The room on the disk is looked at after something was written, once in this time at most ...
pub const ROOM_LOOK_EVERY: Duration = Duration::from_secs(1);
/// ... or when so many pages more are in the WAL, a part of a small floor ...
pub const ROOM_LOOK_PAGES: i32 = 128;
/// ... and this often while there is not enough, so that webhooks are taken again within a second of there being some.
pub const ROOM_SHORT_LOOK_EVERY: Duration = Duration::from_millis(200);
/// After SQLite found no room there is none for this long, whatever the file system says: a quota, for example, is not in
/// what it says.
pub const ROOM_RAN_OUT_WAIT: Duration = Duration::from_millis(300);
/// The ballast is put back when SQLite has found room for this long ...
pub const BALLAST_WAIT: Duration = Duration::from_secs(10);
/// ... and while there is too little for it, this is tried again so often.
pub const BALLAST_AGAIN: Duration = Duration::from_secs(60);
/// The floor, and the ballast, are one part in so many of the file system where that is less than what is configured.
pub const FLOOR_PART: u64 = 20;
/// There is enough room again at the floor and one part in so many of it more, so that it does not go to and fro.
pub const FLOOR_MARGIN_PART: u64 = 8;
/// The problem of a full disk is over when there was enough room for this long.
pub const ROOM_SETTLED: Duration = Duration::from_secs(5);
/// The problem of a failing card is over when something could be written again for this long.
pub const STORAGE_SETTLED: Duration = Duration::from_secs(5);
/// Pause between two attempts to open the file again.
pub const REOPEN_PAUSE: Duration = Duration::from_millis(250);
/// How long the writer waits for SQLite's locks, which an admin's own program may hold.
pub const WRITER_BUSY_WAIT: Duration = Duration::from_millis(500);
/// Pause before a lock is tried again for which SQLite does not wait by itself.
pub const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Tries to empty the WAL while somebody reads an older state of the file; then whoever asked is told ...
pub const TRUNCATE_TRIES_MAX: u32 = 20;
/// ... and the pause between two of them, in which appends go on.
pub const TRUNCATE_PAUSE: Duration = Duration::from_millis(100);
/// How long a reader waits for SQLite's locks.
pub const READER_BUSY_WAIT: Duration = Duration::from_secs(5);
/// Stack of the writer's and the drain's thread.
pub const THREAD_STACK_BYTES: usize = 512 * 1024;

/// A problem that stands for single events, and not for a state, is over when it was not seen again for this long ...
pub const PROBLEM_EVENT_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// ... and one that says the machine is short of something, for this long.
pub const PROBLEM_TROUBLE_KEPT: Duration = Duration::from_secs(3600);

// A file that may be damaged.

/// Journal rows, or objects, that are verified in one reading: a few milliseconds, after which the WAL may start over.
pub const VERIFY_ROWS_MAX: u32 = 1_000;
/// Bytes of bodies in one such reading.
pub const VERIFY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A look at the file before a start serves: a file of some megabytes is checked as a whole in it, and of a larger one as
/// much as can be, so that the first 200 does not wait for the rest.
pub const START_LOOK_MAX: Duration = Duration::from_millis(25);
/// The same when the file was noted to be damaged: longer, and short enough to serve within two seconds.
pub const NOTED_LOOK_MAX: Duration = Duration::from_secs(1);
/// The look once it serves, which goes on where the first has not come: what a card reads in a few seconds. All of a large
/// file is for `verify`.
pub const AFTER_START_LOOK_MAX: Duration = Duration::from_secs(2);
/// Pages that are held in memory meanwhile: a few trees down to their leaves.
pub const CHECK_CACHE_PAGES: i32 = 64;
/// Steps of SQLite's machine between two looks at the clock, some ten microseconds.
pub const CHECK_STEPS: i32 = 1_000;
/// Rows that are named when something is wrong with many: enough to see what they have in common.
pub const VERIFY_FINDINGS_MAX: usize = 20;

/// A row that is read from a damaged file: a body or an object, and the rest of its row.
pub const SALVAGED_ROW_BYTES_MAX: usize = ANSWER_BYTES_MAX + HEAD_BYTES_MAX;
/// Pages of a damaged file that are read for one change, so that the drain's thread is not held up.
pub const SALVAGE_PAGES_MAX: u32 = 64;
/// How long a start looks in a damaged file for the newest webhook.
pub const SALVAGE_SEQ_LOOK_MAX: Duration = Duration::from_millis(300);
/// The least a webhook takes in the file. So many bytes hold one at most whose number is not known.
pub const WEBHOOK_BYTES_MIN: u64 = 32;
/// A fresh file counts its webhooks from a multiple of this on, above all that the damaged one may have had.
pub const SEQ_LEAP: i64 = 1_000_000;
/// Between two looks at whether a damaged file was removed.
pub const SET_ASIDE_LOOK_EVERY: Duration = Duration::from_secs(60);

// The doctor.

/// All that it asks of the network.
pub const DOCTOR_NETWORK_WAIT: Duration = Duration::from_secs(5);
/// Its look at the pages of the file: of a large one, as much as fits.
pub const DOCTOR_CHECK_WAIT: Duration = Duration::from_secs(2);
/// For the service manager to answer.
pub const DOCTOR_UNIT_WAIT: Duration = Duration::from_secs(2);
/// Syncs that are timed: enough for a median, and little wear ...
pub const DOCTOR_SYNCS: usize = 20;
/// ... of so many bytes each, two pages of the file ...
pub const DOCTOR_SYNC_BYTES: usize = 4 * 1024;
/// ... and none is begun after this, on a card where each takes long.
pub const DOCTOR_SYNC_WAIT: Duration = Duration::from_secs(3);
/// A median above this answers fewer than twenty webhooks a second, one after the other; good cards take 2 to 10 ms.
pub const SYNC_SLOW: Duration = Duration::from_millis(50);
/// A single sync above this is a part of the four seconds that an answer has.
pub const SYNC_STUCK: Duration = Duration::from_secs(1);
/// Restarts by systemd since the service was started, above which something is wrong with it.
pub const RESTARTS_MANY: u64 = 5;

// A copy of the file.

/// Bytes that are copied between two syncs: a commit on the same card waits for as many at most.
pub const SNAPSHOT_STEP_BYTES: u64 = 1024 * 1024;
/// The copy rests after each step for as long as the step took, so that half of the card is for others, and for this long
/// at most.
pub const SNAPSHOT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// The WAL cannot start over meanwhile. When it has grown by so many bytes, some twenty thousand webhooks, the copy is
/// given up: it takes that room until the next stop.
pub const SNAPSHOT_WAL_BYTES_MAX: u64 = 128 * 1024 * 1024;

// The drain.

/// Journal rows planned in one transaction.
pub const PLAN_ROWS_MAX: u32 = 128;
/// Webhooks of one such transaction that are logged one by one; more are one line with numbers. A new link brings some ten
/// at once, and a flood must not push everything else out of the log: the file has each of them.
pub const PLAN_LINES_MAX: usize = 20;
/// Bytes of bodies after which such a transaction takes no more rows.
pub const PLAN_BYTES_MAX: usize = 1024 * 1024;
/// Planning happens at most once in this time while webhooks stream in ...
pub const PLAN_WAIT: Duration = Duration::from_secs(1);
/// ... and at once when none has come for this long.
pub const PLAN_QUIET: Duration = Duration::from_millis(25);
/// A backlog is planned in batches, after each of which planning rests for so many times as long as it took, and for
/// [`PLAN_WAIT`] at most, while webhooks still stream in: they come first, and what they lead to is for when they have come.
pub const PLAN_REST: u32 = 3;
/// Deliveries remembered to recognise a repeated one; Belvo repeats within minutes.
pub const DELIVERIES_REMEMBERED: usize = 512;
/// Requests to Belvo's API under way at once.
pub const FETCHES_AT_ONCE: usize = 2;
/// Between two fetches of the same thing at least, however many webhooks ask for it meanwhile.
pub const SAME_AGAIN: Duration = Duration::from_secs(1);
/// Links whose last turn is remembered, so that none is served twice while another waits.
pub const TURNS_REMEMBERED: usize = 4_096;
/// Updated objects asked for one by one; more are read with their list.
pub const OBJECTS_BY_ID_MAX: usize = 50;
/// Objects marked as deleted in one transaction, so that an append waits for few of them.
pub const BURY_MAX: usize = 500;
/// What is new is asked for from this long before the last complete listing began: Belvo's filter has days, in a time
/// zone that is not documented.
pub const NEW_OVERLAP: Duration = Duration::from_secs(2 * 24 * 3600);
/// The whole list is read again after this long even if only what is new is asked for.
pub const WHOLE_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);
/// The same listing read again when it did not agree with its own count.
pub const LISTING_ROUNDS_MAX: u32 = 3;
/// Pages of one listing, of 1,000 objects at best.
pub const LISTING_PAGES_MAX: u32 = 1_000;
/// Objects written in one transaction: an append waits for two milliseconds of a fast machine. Fewer would write more bytes
/// to the card for each object.
pub const STORE_OBJECTS_MAX: usize = 50;
/// While webhooks come, putting objects rests after each transaction for as long as it took, and this long at most: it takes
/// half of the writer's time then, and of the disk's.
pub const STORE_REST_MAX: Duration = Duration::from_millis(50);
/// Bytes of objects written in one transaction.
pub const STORE_BYTES_MAX: usize = 512 * 1024;
/// Requests to Belvo's API in any [`EDGE_WINDOW`]; above it the edge answers 403 (docs/belvo.md, Errors).
pub const EDGE_REQUESTS_MAX: f64 = 80.0;
/// The window of that limit.
pub const EDGE_WINDOW: Duration = Duration::from_secs(30);
/// The longest pause after the edge throttled us several times in a row.
pub const THROTTLED_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// The longest wait the drain ever sets. A stored `due_at` further away than this comes from a wrong clock and is due now.
pub const LONGEST_WAIT: Duration = Duration::from_secs(35 * 24 * 3600);
/// First pause after the API's edge throttled us, when it names none (docs/belvo.md, Errors: over 80 requests in 30 s).
pub const THROTTLED_WAIT: Duration = Duration::from_secs(30);
/// Between two tries while the API as a whole is away.
pub const OUTAGE_WAIT: Duration = Duration::from_secs(60);
/// Between two tries while the API refuses our keys.
pub const CREDENTIALS_WAIT: Duration = Duration::from_secs(15 * 60);
/// Between two looks at whether the files of refused keys have changed: two calls of the system, and keys that were
/// corrected are used at once. Keys that the API takes are not looked at: an idle gateway sleeps.
pub const KEYS_LOOK_EVERY: Duration = Duration::from_secs(5);
/// A `Retry-After` is obeyed up to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Until the next look at the file when it could not be read or written; doubled each time ...
pub const FILE_FAILED_WAIT: Duration = Duration::from_secs(1);
/// ... up to this.
pub const FILE_FAILED_WAIT_MAX: Duration = Duration::from_secs(300);

// Retention.

/// Days that finished webhooks are kept as received, unless configured otherwise: a quarter of a year, for whoever looks
/// into what went wrong ...
pub const KEEP_DAYS: u64 = 90;
/// ... days that what is known of them is kept without their content ...
pub const KEEP_EVENTS_DAYS: u64 = 730;
/// ... and what may be configured for either.
pub const KEEP_DAYS_RANGE: RangeInclusive<u64> = 1..=36_500;
/// The journal, unless configured otherwise: some two million webhooks, and a part of the smallest card ...
pub const JOURNAL_MAX_MIB: u64 = 1_024;
/// ... and what may be configured.
pub const JOURNAL_MAX_MIB_RANGE: RangeInclusive<u64> = 1..=1024 * 1024;
/// When the journal is too large it is made smaller by one part in so many, so that it is not the same again tomorrow.
pub const JOURNAL_SPARE_PART: u64 = 20;
/// Bytes of a journal row besides its body, about.
pub const JOURNAL_ROW_BYTES: u64 = 48;
/// The first look at what may leave, when the start is over ...
pub const RETENTION_FIRST: Duration = Duration::from_secs(5);
/// ... and the next ones; what has become a day older is not much.
pub const RETENTION_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Until the next try when the file could not be read or written, or nothing may leave.
pub const RETENTION_AGAIN: Duration = Duration::from_secs(10);
/// While the disk has too little room, until it is seen whether what was freed is still there.
pub const ROOM_MADE_AGAIN: Duration = Duration::from_secs(1);
/// Rows that are looked at in one read of the file.
pub const RETENTION_LOOK_ROWS: u32 = 1_000;
/// Rows that leave in one transaction, so that an append waits for few of them ...
pub const RETENTION_ROWS_MAX: usize = 200;
/// ... and the pause after it, so that a card is left time for others.
pub const RETENTION_PAUSE: Duration = Duration::from_millis(20);
/// A clock says what is old when it was not set for this long: after a start the network sets it within minutes.
pub const CLOCK_STEADY: Duration = Duration::from_secs(10 * 60);
/// Less than this is a clock that is corrected, and not one that is set.
pub const CLOCK_STEP_MAX: Duration = Duration::from_secs(60);
/// A clock that is further ahead of the one that was believed last has leapt: no box is in a drawer for longer ...
pub const CLOCK_LEAP_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// ... and is believed when it was not set for this long.
pub const CLOCK_HELD: Duration = Duration::from_secs(24 * 3600);

// The operator's acts.

/// Commands that are served at once through the control socket; it is one person's.
pub const CONTROL_CONNECTIONS_MAX: usize = 4;
/// One order, a JSON line.
pub const CONTROL_ORDER_BYTES_MAX: u64 = 16 * 1024;
/// One report: [`REPORT_ROWS_MAX`] rows of a few hundred bytes.
pub const CONTROL_REPORT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// From the connection to the end of the order, and for the report to be taken.
pub const CONTROL_WAIT: Duration = Duration::from_secs(5);
/// One act. A reconcile waits for the budget, which may pause for a quarter of an hour several times.
pub const ACT_WAIT: Duration = Duration::from_secs(2 * 3600);
/// Rows of work or marked lists in a report; more are counted.
pub const REPORT_ROWS_MAX: usize = 20_000;
/// Rows of work moved in one transaction, so that an append waits for few of them.
pub const ORDER_ROWS_MAX: usize = 200;
/// Rows that are erased in one transaction, so that an append waits for few of them.
pub const ERASE_ROWS_MAX: u32 = 200;
/// Webhooks that are looked at for that in one transaction: a few milliseconds.
pub const ERASE_LOOK_ROWS: i64 = 5_000;
/// Between two tries to finish an erasure that was interrupted; each looks through the whole file.
pub const ERASE_AGAIN: Duration = Duration::from_secs(3600);
/// Pages of the file that are looked through in one transaction when something was erased.
pub const CLEAN_PAGES_MAX: u32 = 128;
/// Pages of the list of all links, of 1,000 at best; they are held in memory.
pub const LINK_PAGES_MAX: u32 = 100;
/// Belvo collects for a while after it got through to the institution: only a fetch that began this much later is sure to
/// have seen it.
pub const COLLECTED_WAIT: Duration = Duration::from_secs(3600);
/// A webhook follows the access it is about by hours at most: an absence is compared from this long before it began.
pub const RECONCILE_MARGIN: Duration = Duration::from_secs(24 * 3600);
/// The gateway notes that it runs at least this often: one page of flash each time.
pub const ALIVE_EVERY: Duration = Duration::from_secs(5 * 60);
/// Away for longer than this, the gateway may have missed webhooks: Belvo repeats a delivery for minutes only, and after a
/// crash the last note is up to [`ALIVE_EVERY`] old.
pub const AWAY_MAX: Duration = Duration::from_secs(10 * 60);
/// The network sets a clock within this time of the start, or a person should know.
pub const CLOCK_UNSET_MAX: Duration = Duration::from_secs(60);
/// What a start brings with it is over by now: what it ran will not be run again.
pub const START_SETTLED: Duration = Duration::from_secs(5);
/// Between two looks whether the clock has been set.
pub const CLOCK_LOOK: Duration = Duration::from_secs(5);

/// A webhook of `self-test` is in the file with what became of it: it was answered, and planning waits for a
/// second at most where it has no backlog.
pub const SELF_TEST_LOOK: Duration = Duration::from_secs(5);
/// Between two looks at the file meanwhile.
pub const SELF_TEST_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Its connection, which stays on the machine.
pub const DETOUR_WAIT: Duration = Duration::from_secs(5);

// The API client.

/// Objects asked for in one page; Belvo clamps to 1000 (docs/belvo.md, Lists).
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// One answer of the API, with one object in it: a document as a PDF, for example.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One page of several objects, a thousand of some kilobytes; larger ones are asked for again with fewer objects. Two of
/// them may be in memory at once, beside all bodies of webhooks.
pub const LIST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// An id of an object; what is longer is none.
pub const ID_BYTES_MAX: usize = 200;
/// An answer's head, and the buffer its body is read through.
pub const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// TCP connect to the API.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// One request to the API, from its first byte to the last byte of the answer.
pub const REQUEST_WAIT: Duration = Duration::from_secs(60);
/// A connection to the API is kept this long.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(20);

// Files and processes.

/// A configuration, key or certificate file.
pub const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Values in the authorization file: two while one is being changed, and some room.
pub const AUTHORIZATION_VALUES_MAX: usize = 8;
