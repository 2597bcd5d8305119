//! What a person should know: opened, seen again, closed when it is over. At most one open row for a kind and subject.

use std::time::Duration;

use rusqlite::{Transaction, params};

use super::erasing;
use crate::database::Reader;
use crate::limits::{PROBLEM_EVENT_KEPT, PROBLEM_TROUBLE_KEPT};
use crate::system::clock::UnixMs;

/// What kind of problem it is. The names are stable: scripts may ask for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No API keys are configured: webhooks are kept, nothing is fetched.
    ApiKeysMissing,
    /// The API refuses our keys: nothing is fetched.
    ApiKeysRefused,
    /// An allowed source sends the wrong `Authorization`, or none.
    AuthorizationMismatch,
    /// An address that is not allowed sent our `Authorization` value.
    SourceDrift,
    /// A trusted proxy does not say whom it speaks for.
    ProxyUnclear,
    /// Somebody who is no trusted proxy claims to speak for another.
    ProxyInFront,
    /// A body from an allowed source was no JSON object and was answered 400.
    UnreadableBody,
    /// A damaged file was set aside, and a fresh one is in use.
    FileDamaged,
    /// What a webhook's row holds is not what was received.
    WebhookDamaged,
    /// The process is short of something that it needs from the machine.
    Trouble,
    /// A fetch failed and will not be tried again by itself.
    FetchFailed,
    /// A link needs its user before it can be fetched.
    LinkBlocked,
    /// Belvo itself reports that it could not collect everything.
    RetrievalFailed,
    /// A consent ends soon.
    ConsentExpiring,
    /// A consent has ended or was taken back.
    ConsentEnded,
    /// Some of what a consent covers cannot be read.
    ConsentLimited,
    /// A resource is not offered by the institution.
    ResourceUnsupported,
    /// Objects in a list of a link name another link.
    LinkMismatch,
    /// Objects that Belvo had deleted are there again.
    DeletedReturned,
    /// The gateway did not run for longer than Belvo repeats a delivery.
    Away,
    /// The API has not answered at all for a while.
    ApiUnreachable,
    /// A fetch has failed for a while and is still tried again.
    FetchDelayed,
    /// A listing never agreed with its own count.
    ListingUnstable,
    /// The API sent an object without an id.
    ObjectWithoutId,
    /// The disk has too little room: webhooks are answered 503.
    DiskLow,
    /// The clock shows a time that cannot be right: nothing is fetched over TLS.
    ClockNotSet,
    /// Nothing can be written to the card: webhooks are answered 503.
    StorageFailing,
    /// The journal is larger than it may be, and nothing more of it may leave.
    JournalLarge,
    /// The configuration that was read last is wrong; the one before stays in force.
    ConfigurationRefused,
    /// A certificate could not be got from the authority; it is tried again.
    CertificateNotRenewed,
    /// The listener's certificate expires soon.
    CertificateExpiring,
    /// The listener's certificate has expired.
    CertificateExpired,
    /// The listener's new certificate cannot be used; the one before is kept.
    CertificateUnusable,
}

impl Kind {
    /// The name in `problems.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKeysMissing => "api-keys-missing",
            Self::ApiKeysRefused => "api-keys-refused",
            Self::AuthorizationMismatch => "authorization-mismatch",
            Self::SourceDrift => "source-drift",
            Self::ProxyUnclear => "proxy-unclear",
            Self::ProxyInFront => "proxy-in-front",
            Self::UnreadableBody => "unreadable-body",
            Self::FileDamaged => "file-damaged",
            Self::WebhookDamaged => "webhook-damaged",
            Self::Trouble => "trouble",
            Self::FetchFailed => "fetch-failed",
            Self::LinkBlocked => "link-blocked",
            Self::RetrievalFailed => "retrieval-failed",
            Self::ConsentExpiring => "consent-expiring",
            Self::ConsentEnded => "consent-ended",
            Self::ConsentLimited => "consent-limited",
            Self::ResourceUnsupported => "resource-unsupported",
            Self::LinkMismatch => "link-mismatch",
            Self::DeletedReturned => "deleted-returned",
            Self::Away => "away",
            Self::ApiUnreachable => "api-unreachable",
            Self::FetchDelayed => "fetch-delayed",
            Self::ListingUnstable => "listing-unstable",
            Self::ObjectWithoutId => "object-without-id",
            Self::DiskLow => "disk-low",
            Self::ClockNotSet => "clock-not-set",
            Self::StorageFailing => "storage-failing",
            Self::JournalLarge => "journal-large",
            Self::ConfigurationRefused => "configuration-refused",
            Self::CertificateNotRenewed => "certificate-not-renewed",
            Self::CertificateExpiring => "certificate-expiring",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateUnusable => "certificate-unusable",
        }
    }

    /// After how long without being seen again it is over, for what stands for single events and not for a state.
    fn kept(self) -> Option<Duration> {
        match self {
            Self::UnreadableBody
            | Self::SourceDrift
            | Self::ProxyUnclear
            | Self::ProxyInFront
            | Self::DeletedReturned
            | Self::ResourceUnsupported => Some(PROBLEM_EVENT_KEPT),
            Self::Trouble => Some(PROBLEM_TROUBLE_KEPT),
            _ => None,
        }
    }

    /// Whether the gateway's work stands still until it is over.
    pub fn stops_the_work(self) -> bool {
        self.severity() == 1
    }

    /// 1 stops the gateway's work, 2 stops some of it, 3 is worth knowing.
    fn severity(self) -> u8 {
        match self {
            Self::ApiKeysMissing
            | Self::ApiKeysRefused
            | Self::ApiUnreachable
            | Self::AuthorizationMismatch
            | Self::CertificateExpired
            | Self::ClockNotSet
            | Self::DiskLow
            | Self::StorageFailing
            | Self::SourceDrift
            | Self::ProxyUnclear
            | Self::Trouble => 1,
            Self::FetchFailed
            | Self::FileDamaged
            | Self::WebhookDamaged
            | Self::FetchDelayed
            | Self::LinkBlocked
            | Self::RetrievalFailed
            | Self::ConsentExpiring
            | Self::ConsentEnded
            | Self::LinkMismatch
            | Self::Away
            | Self::ConfigurationRefused
            | Self::JournalLarge
            | Self::CertificateNotRenewed
            | Self::CertificateExpiring
            | Self::CertificateUnusable
            | Self::ProxyInFront
            | Self::UnreadableBody => 2,
            Self::ListingUnstable
            | Self::ObjectWithoutId
            | Self::ConsentLimited
            | Self::ResourceUnsupported
            | Self::DeletedReturned => 3,
        }
    }
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: Kind,
    /// What it is about: a link and resource, an address, or nothing for the gateway itself.
    pub subject: String,
    /// What happened, in a sentence.
    pub text: String,
    /// What to do.
    pub next_step: String,
    /// The first bytes of a body that could not be read.
    pub evidence: Option<Vec<u8>>,
}

/// A problem comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there (again).
    Open(Problem),
    /// It is over, if it was there.
    Close(Kind, String),
}

/// A row of the list of problems, open or closed.
#[derive(Debug)]
pub struct Listed {
    /// Its number.
    pub problem: i64,
    /// [`Kind::name`].
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// 1 is worst.
    pub severity: u8,
    /// When it was first seen.
    pub since: UnixMs,
    /// When it was last seen.
    pub last: UnixMs,
    /// In how many of the writes, a few seconds apart, it was seen.
    pub count: i64,
    /// What happened.
    pub text: String,
    /// What to do.
    pub next_step: String,
    /// When it was over.
    pub closed: Option<UnixMs>,
}

pub(super) fn apply(
    transaction: &Transaction<'_>,
    changes: &[Change],
    now: UnixMs,
) -> rusqlite::Result<()> {
    changes.iter().try_for_each(|change| match change {
        Change::Open(problem) => open(transaction, problem, now),
        Change::Close(kind, subject) => close(transaction, *kind, subject, now),
    })
}

fn open(transaction: &Transaction<'_>, problem: &Problem, now: UnixMs) -> rusqlite::Result<()> {
    let evidence = match &problem.evidence {
        Some(bytes) if !erasing::names_erased(transaction, bytes)? => Some(bytes),
        _ => None,
    };
    transaction
        .prepare_cached(
            "INSERT INTO problems (kind, subject, severity, since_at, last_at, text, next_step, evidence)
             VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)
             ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO UPDATE
             SET last_at = excluded.last_at, count = count + 1, text = excluded.text, next_step = excluded.next_step,
                 evidence = coalesce(excluded.evidence, evidence)",
        )?
        .execute(params![
            problem.kind.name(),
            problem.subject,
            problem.kind.severity(),
            now.0,
            problem.text,
            problem.next_step,
            evidence,
        ])
        .map(drop)
}

fn close(
    transaction: &Transaction<'_>,
    kind: Kind,
    subject: &str,
    now: UnixMs,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE problems SET closed_at = ?3 WHERE kind = ?1 AND subject = ?2 AND closed_at IS NULL")?
        .execute(params![kind.name(), subject, now.0])
        .map(drop)
}

/// Closes what stands for single events and was not seen again for long.
pub(super) fn expire(transaction: &Transaction<'_>, now: UnixMs) -> rusqlite::Result<()> {
    for kind in [
        Kind::UnreadableBody,
        Kind::SourceDrift,
        Kind::ProxyUnclear,
        Kind::ProxyInFront,
        Kind::Trouble,
        Kind::DeletedReturned,
        Kind::ResourceUnsupported,
    ] {
        let kept = kind.kept().map_or(i64::MAX, |kept| kept.as_millis() as i64);
        transaction
            .prepare_cached("UPDATE problems SET closed_at = ?2 WHERE kind = ?1 AND closed_at IS NULL AND last_at < ?3")?
            .execute(params![kind.name(), now.0, now.0.saturating_sub(kept)])?;
    }
    Ok(())
}

/// The problems, worst and oldest first; the closed ones too when `all`.
///
/// # Errors
/// When SQLite cannot read.
pub fn list(connection: &Reader, all: bool) -> rusqlite::Result<Vec<Listed>> {
    connection
        .prepare(
            "SELECT problem, kind, subject, severity, since_at, last_at, count, text, next_step, closed_at FROM problems
              WHERE ?1 OR closed_at IS NULL ORDER BY closed_at IS NOT NULL, severity, since_at, problem",
        )?
        .query_map([all], |row| {
            Ok(Listed {
                problem: row.get(0)?,
                kind: row.get(1)?,
                subject: row.get(2)?,
                severity: row.get(3)?,
                since: UnixMs(row.get(4)?),
                last: UnixMs(row.get(5)?),
                count: row.get(6)?,
                text: row.get(7)?,
                next_step: row.get(8)?,
                closed: row.get::<_, Option<i64>>(9)?.map(UnixMs),
            })
        })?
        .collect()
}
