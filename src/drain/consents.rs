//! The state of a consent, from what webhooks and Belvo's record of it say, and what its user has to do. Pure: the SQL
//! only stores the result. Open Finance Brazil only (docs/belvo.md, Consents).

use form_urlencoded::Serializer;

use crate::catalog::ConsentNews;
use crate::store::problems::{Change, Kind, Problem};
use crate::system::clock::UnixMs;
use crate::webhook::{Envelope, Seq};

/// Where a user renews a consent; the operator puts the access token in.
const PORTAL: &str = "https://meuportal.belvo.com/?";

/// How a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Authorised,
    /// Its user has begun and not finished it.
    Awaiting,
    /// It holds and ends soon.
    Expiring,
    /// It has ended.
    Expired,
    /// Its user took it back, or refused it.
    Revoked,
    /// Nothing is known but that it is there.
    Unknown,
}

impl Status {
    /// The word in `consents.status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authorised => "authorised",
            Self::Awaiting => "awaiting",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        [
            Self::Authorised,
            Self::Awaiting,
            Self::Expiring,
            Self::Expired,
            Self::Revoked,
            Self::Unknown,
        ]
        .into_iter()
        .find(|status| status.name() == name)
    }

    /// Belvo's word in the record.
    fn of_record(word: &str) -> Option<Self> {
        match word {
            "AUTHORISED" => Some(Self::Authorised),
            "AWAITING_AUTHORISATION" | "AWAITING_AUTHORISATION_CONFIRMATION" => {
                Some(Self::Awaiting)
            }
            "EXPIRED" => Some(Self::Expired),
            "REJECTED" => Some(Self::Revoked),
            _ => None,
        }
    }
}

/// What of it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Some of it, for good.
    Unrecoverable,
    /// Some of it, for now.
    Unavailable,
}

impl Limited {
    /// The word in `consents.limited`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unrecoverable => "unrecoverable",
            Self::Unavailable => "unavailable",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Unrecoverable, Self::Unavailable]
            .into_iter()
            .find(|limited| limited.name() == name)
    }
}

/// The state of one consent: a row of `consents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// How it stands.
    pub status: Status,
    /// Since when.
    pub since: UnixMs,
    /// What said so: a webhook's code, or `record`.
    pub reason: String,
    /// The newest webhook that had a say.
    pub seq: Seq,
    /// The link it is for.
    pub link_id: String,
    /// When it ends, as Belvo sent it.
    pub due_date: Option<String>,
    /// What of it cannot be read.
    pub limited: Option<Limited>,
    /// `data` of the webhook that asked for its renewal.
    pub renewal: Option<String>,
    /// Where its user renews it, without the access token.
    pub renewal_url: Option<String>,
}

/// What a webhook says about a consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which consent.
    pub consent_id: String,
    link_id: String,
    news: ConsentNews,
    code: String,
    due_date: Option<String>,
    data: Option<String>,
    renewal_url: String,
}

impl Said {
    /// What this webhook about the consent of that link says.
    pub fn new(consent_id: String, link_id: &str, news: ConsentNews, envelope: &Envelope) -> Self {
        let data = &envelope.data;
        let mut query = Serializer::for_suffix(PORTAL.to_owned(), PORTAL.len());
        query
            .append_pair("access_token", "ACCESS_TOKEN")
            .append_pair("link_id", link_id)
            .append_pair("consent_id", &consent_id);
        let named = [
            ("institution", &data.institution),
            ("institution_display_name", &data.institution_display_name),
            ("institution_icon_logo", &data.institution_icon_logo),
        ];
        for (name, value) in named {
            query.append_pair(name, value.as_deref().unwrap_or_default());
        }
        query.append_pair("action", "renew");
        Self {
            consent_id,
            link_id: link_id.to_owned(),
            news,
            code: envelope.code.clone().unwrap_or_default(),
            due_date: data.due_date.clone(),
            data: data.of_consent.clone(),
            renewal_url: query.finish(),
        }
    }
}

/// The webhook `seq`, planned at `at`, says something. Planning a row twice, or an old one late, changes nothing.
pub fn heard(consent: Option<Consent>, said: &Said, seq: Seq, at: UnixMs) -> Consent {
    let mut next = match consent {
        Some(consent) if consent.seq >= seq => return consent,
        Some(consent) => consent,
        None => new(&said.link_id, &said.code, seq, at),
    };
    next.seq = seq;
    next.link_id.clone_from(&said.link_id);
    if said.due_date.is_some() {
        next.due_date.clone_from(&said.due_date);
    }
    let status = match said.news {
        ConsentNews::Expiring => Status::Expiring,
        ConsentNews::Expired => Status::Expired,
        ConsentNews::Revoked => Status::Revoked,
        ConsentNews::Unrecoverable | ConsentNews::Unavailable | ConsentNews::Look => next.status,
    };
    next.limited = match said.news {
        ConsentNews::Unrecoverable => Some(Limited::Unrecoverable),
        ConsentNews::Unavailable => next.limited.or(Some(Limited::Unavailable)),
        _ => next.limited,
    };
    if matches!(status, Status::Expiring | Status::Expired | Status::Revoked) {
        next.renewal.clone_from(&said.data);
        next.renewal_url = Some(said.renewal_url.clone());
    }
    moved(next, status, &said.code, at)
}

/// What Belvo's record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `status`, in Belvo's words.
    pub status: Option<String>,
    /// `expired_at`: when it ends.
    pub expired_at: Option<String>,
}

/// Belvo's record was read. `known` is the newest webhook that had a say when it was asked for. A record that says
/// "authorised" and names no other end than the webhook that warned of it does not take the warning back.
pub fn read(
    consent: Option<Consent>,
    record: &Record,
    link_id: &str,
    known: Seq,
    at: UnixMs,
) -> Consent {
    let mut next = match consent {
        Some(consent) if consent.seq > known => return consent,
        Some(consent) => consent,
        None => new(link_id, "record", known, at),
    };
    let said = record.status.as_deref().and_then(Status::of_record);
    let same_end = record.expired_at.is_none() || day(&record.expired_at) == day(&next.due_date);
    let status = match (next.status, said) {
        (Status::Expiring, Some(Status::Authorised)) if same_end => Status::Expiring,
        (before, said) => said.unwrap_or(before),
    };
    if record.expired_at.is_some() {
        next.due_date.clone_from(&record.expired_at);
    }
    if matches!(status, Status::Authorised) {
        (next.renewal, next.renewal_url) = (None, None);
    }
    moved(next, status, "record", at)
}

/// Belvo writes the same moment in several ways; the day is enough to tell one end from another.
fn day(time: &Option<String>) -> Option<&str> {
    time.as_ref()?.get(..10)
}

fn new(link_id: &str, reason: &str, seq: Seq, at: UnixMs) -> Consent {
    Consent {
        status: Status::Unknown,
        since: at,
        reason: reason.to_owned(),
        seq,
        link_id: link_id.to_owned(),
        due_date: None,
        limited: None,
        renewal: None,
        renewal_url: None,
    }
}

/// The same status keeps its time and reason.
fn moved(consent: Consent, status: Status, reason: &str, at: UnixMs) -> Consent {
    if consent.status == status {
        return consent;
    }
    Consent {
        status,
        since: at,
        reason: reason.to_owned(),
        ..consent
    }
}

/// The problems that a consent in this state is, and the end of those it is not.
pub fn problems(consent_id: &str, consent: &Consent) -> Vec<Change> {
    let subject = format!("consent {consent_id} of link {}", consent.link_id);
    let due = consent.due_date.as_deref().unwrap_or("a date not given");
    let renew = consent.renewal_url.as_deref().map_or_else(
        || "have the link's user renew the consent in My Belvo Portal".to_owned(),
        |url| format!("have the link's user renew the consent in My Belvo Portal: {url} (with an access token of the widget)"),
    );
    let open = |kind: Kind, text: String, next_step: &str| {
        Change::Open(Problem {
            kind,
            subject: subject.clone(),
            text,
            next_step: next_step.to_owned(),
            evidence: None,
        })
    };
    let state = match consent.status {
        Status::Expiring => Some(open(
            Kind::ConsentExpiring,
            format!("the consent ends on {due}; after that the link gets no new data"),
            &renew,
        )),
        Status::Expired => Some(open(
            Kind::ConsentEnded,
            format!("the consent ended on {due}; the link gets no new data"),
            &renew,
        )),
        Status::Revoked => Some(open(
            Kind::ConsentEnded,
            "the consent was taken back; the link gets no new data".to_owned(),
            "ask the link's user to consent again if the data is still needed",
        )),
        Status::Authorised | Status::Awaiting | Status::Unknown => None,
    };
    let limited = consent.limited.map(|limited| {
        let (text, next_step) = match limited {
            Limited::Unrecoverable => (
                "some of what the consent covers can never be read",
                "ask the link's user to consent again if that data is needed; the rest is fetched",
            ),
            Limited::Unavailable => (
                "some of what the consent covers cannot be read for now",
                "nothing: Belvo announces the data when the institution gives it",
            ),
        };
        open(Kind::ConsentLimited, text.to_owned(), next_step)
    });
    let opened: Vec<_> = [state, limited].into_iter().flatten().collect();
    let is_open = |kind: Kind| {
        opened
            .iter()
            .any(|change| matches!(change, Change::Open(problem) if problem.kind == kind))
    };
    let closed: Vec<_> = [
        Kind::ConsentExpiring,
        Kind::ConsentEnded,
        Kind::ConsentLimited,
    ]
    .into_iter()
    .filter(|kind| !is_open(*kind))
    .map(|kind| Change::Close(kind, subject.clone()))
    .collect();
    opened.into_iter().chain(closed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);
    const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";
    const CONSENT: &str = "9e763d19-15a4-410c-a106-18c0f60ca5eb";

    fn said(news: ConsentNews) -> Said {
        let body = format!(
            r#"{{"webhook_code":"code","data":{{"consent_id":"{CONSENT}","consent_due_date":"2026-12-26T10:45:58.000Z",
                "action":"renew","institution":"ofmockbank_br_retail","institution_display_name":"OF & Co",
                "institution_icon_logo":"https://logo.com"}}}}"#
        );
        let envelope = Envelope::parse(&body).expect("an envelope");
        Said::new(CONSENT.to_owned(), LINK, news, &envelope)
    }

    fn record(status: &str, expired_at: Option<&str>) -> Record {
        Record {
            status: Some(status.to_owned()),
            expired_at: expired_at.map(str::to_owned),
        }
    }

    fn expiring() -> Consent {
        heard(None, &said(ConsentNews::Expiring), Seq(1), NOW)
    }

    #[test]
    fn a_consent_that_ends_soon_keeps_what_its_renewal_needs() {
        let consent = expiring();
        assert_eq!(consent.status, Status::Expiring);
        assert_eq!(
            consent.due_date.as_deref(),
            Some("2026-12-26T10:45:58.000Z")
        );
        assert_eq!(
            consent.renewal_url.as_deref(),
            Some(concat!(
                "https://meuportal.belvo.com/?access_token=ACCESS_TOKEN&link_id=16f68516-bcbc-4cf7-b815-c500d4204e28",
                "&consent_id=9e763d19-15a4-410c-a106-18c0f60ca5eb&institution=ofmockbank_br_retail",
                "&institution_display_name=OF+%26+Co&institution_icon_logo=https%3A%2F%2Flogo.com&action=renew"
            ))
        );
        assert!(consent.renewal.is_some_and(|data| data.contains("OF & Co")));
    }

    #[test]
    fn a_record_that_still_ends_then_does_not_take_the_warning_back() {
        let same = record("AUTHORISED", Some("2026-12-26T10:45:58Z"));
        assert_eq!(
            read(Some(expiring()), &same, LINK, Seq(1), NOW).status,
            Status::Expiring
        );
        let later = record("AUTHORISED", Some("2027-12-26T10:45:58Z"));
        let renewed = read(Some(expiring()), &later, LINK, Seq(1), NOW);
        assert_eq!(
            (renewed.status, renewed.renewal_url),
            (Status::Authorised, None)
        );
    }

    #[test]
    fn a_record_that_was_asked_for_before_the_newest_webhook_does_not_decide() {
        let consent = heard(Some(expiring()), &said(ConsentNews::Expired), Seq(2), NOW);
        let late = read(
            Some(consent.clone()),
            &record("AUTHORISED", None),
            LINK,
            Seq(1),
            NOW,
        );
        assert_eq!(late, consent);
    }

    #[test]
    fn the_words_of_the_record_are_understood_and_others_change_nothing() {
        let status = |word| read(None, &record(word, None), LINK, Seq(1), NOW).status;
        assert_eq!(status("AUTHORISED"), Status::Authorised);
        assert_eq!(status("AWAITING_AUTHORISATION"), Status::Awaiting);
        assert_eq!(status("REJECTED"), Status::Revoked);
        assert_eq!(status("EXPIRED"), Status::Expired);
        assert_eq!(status("SOMETHING"), Status::Unknown);
    }

    #[test]
    fn what_cannot_be_read_is_noted_beside_the_state() {
        let consent = heard(
            Some(expiring()),
            &said(ConsentNews::Unavailable),
            Seq(2),
            NOW,
        );
        assert_eq!(
            (consent.status, consent.limited),
            (Status::Expiring, Some(Limited::Unavailable))
        );
        let kinds: Vec<_> = problems(CONSENT, &consent)
            .into_iter()
            .map(|change| match change {
                Change::Open(problem) => (true, problem.kind),
                Change::Close(kind, _) => (false, kind),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                (true, Kind::ConsentExpiring),
                (true, Kind::ConsentLimited),
                (false, Kind::ConsentEnded)
            ]
        );
    }

    #[test]
    fn hearing_an_old_row_again_changes_nothing() {
        let consent = heard(Some(expiring()), &said(ConsentNews::Expired), Seq(2), NOW);
        assert_eq!(
            heard(
                Some(consent.clone()),
                &said(ConsentNews::Expiring),
                Seq(1),
                NOW
            ),
            consent
        );
    }
}
