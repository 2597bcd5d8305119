//! The state of a link, from what webhooks, Belvo's record of it and failed fetches say. Pure: the SQL only stores the
//! result.
//!
//! Belvo sends no "works again" (docs/belvo.md, Links): that data of the link could be collected says so. Order and
//! repetition of webhooks are not promised, so nothing older changes what something newer said, and what is in doubt is
//! asked of the record.

use crate::catalog::LinkNews;
use crate::store::problems::{Change, Kind, Problem};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// Whether a link works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Valid,
    /// Its credentials or its consent are not accepted any more.
    Invalid,
    /// It needs a new token from its user.
    TokenRequired,
    /// Its creation was never finished.
    Unconfirmed,
    /// Belvo has it no more.
    Deleted,
    /// Its data was erased here.
    Erased,
}

impl Status {
    const ALL: [Self; 6] = [
        Self::Valid,
        Self::Invalid,
        Self::TokenRequired,
        Self::Unconfirmed,
        Self::Deleted,
        Self::Erased,
    ];

    /// The word in `links.status`, which for the first four is Belvo's own.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::TokenRequired => "token_required",
            Self::Unconfirmed => "unconfirmed",
            Self::Deleted => "deleted",
            Self::Erased => "erased",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether its user has to do something before anything of it is fetched.
    pub fn needs_its_user(self) -> bool {
        matches!(
            self,
            Self::Invalid | Self::TokenRequired | Self::Unconfirmed
        )
    }
}

/// The state of one link: a row of `links`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it works.
    pub status: Status,
    /// Since when.
    pub since: UnixMs,
    /// What said so: a code, or `record`.
    pub reason: String,
    /// The newest webhook that had a say.
    pub seq: Seq,
    /// The institution by name, once the record was read.
    pub institution: Option<String>,
}

/// What a webhook says about its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Data of it could be collected; with the webhook's code.
    Works(String),
    /// Something about the link itself; with the reason.
    News(LinkNews, String),
}

/// A link after its move, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The state to keep; `None` while nothing is known.
    pub link: Option<Link>,
    /// Whether the record is to be read to be sure.
    pub look: bool,
}

/// The webhook `seq`, planned at `at`, says something. Planning a row twice, or an old one late, changes nothing.
pub fn heard(link: Option<Link>, said: &Said, seq: Seq, at: UnixMs) -> Moved {
    if link.as_ref().is_some_and(|link| link.seq >= seq) {
        return Moved { link, look: false };
    }
    let status = link.as_ref().map(|link| link.status);
    let (next, reason, look) = match (status, said) {
        (Some(Status::Erased), _) => return Moved { link, look: false },
        (_, Said::News(LinkNews::Deleted, reason)) => (Status::Deleted, reason, false),
        // It was deleted and yet speaks: only the record tells.
        (Some(Status::Deleted), _) => {
            return Moved {
                link: link.map(|link| Link { seq, ..link }),
                look: true,
            };
        }
        (_, Said::News(LinkNews::Invalid, reason)) => (Status::Invalid, reason, true),
        (_, Said::News(LinkNews::TokenRequired, reason)) => (Status::TokenRequired, reason, true),
        (_, Said::News(LinkNews::Look, _)) => return Moved { link, look: true },
        (Some(Status::Valid), Said::Works(_)) => return Moved { link, look: false },
        (before, Said::Works(code)) => (Status::Valid, code, before.is_some()),
    };
    let link = moved(link, next, reason, seq, at);
    Moved {
        link: Some(link),
        look,
    }
}

/// What was asked of Belvo, and when, by the newest webhook about the link: the one that was known when the request went
/// out, and the one that is known now. An answer that a webhook outran does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When the request went out.
    pub then: Seq,
    /// Now.
    pub now: Seq,
}

impl Asked {
    /// Whether a webhook came that the answer may not know of.
    pub fn is_outrun(self) -> bool {
        self.now > self.then
    }

    fn decides(self, link: Option<&Link>) -> bool {
        !self.is_outrun() && link.is_none_or(|link| link.status != Status::Erased)
    }
}

/// Belvo's record says this status, or is gone when there is none.
pub fn read(link: Option<Link>, status: Option<&str>, asked: Asked, at: UnixMs) -> Option<Link> {
    if !asked.decides(link.as_ref()) {
        return link;
    }
    let before = link.as_ref().map_or(Status::Valid, |link| link.status);
    let said = status.map_or(Status::Deleted, |name| match Status::named(name) {
        Some(Status::Deleted | Status::Erased) | None if before == Status::Deleted => Status::Valid,
        Some(Status::Deleted | Status::Erased) | None => before,
        Some(said) => said,
    });
    let seq = link.as_ref().map_or(asked.then, |link| link.seq);
    Some(moved(link, said, "record", seq, at))
}

/// A fetch was refused with this code, which is about the link.
pub fn refused(link: Option<Link>, code: &str, asked: Asked, at: UnixMs) -> Option<Link> {
    if !asked.decides(link.as_ref()) {
        return link;
    }
    let status = match code {
        "token_required" => Status::TokenRequired,
        "unconfirmed_link" => Status::Unconfirmed,
        _ => Status::Invalid,
    };
    let seq = link.as_ref().map_or(asked.then, |link| link.seq);
    Some(moved(link, status, code, seq, at))
}

/// The same status keeps its time and reason.
fn moved(link: Option<Link>, status: Status, reason: &str, seq: Seq, at: UnixMs) -> Link {
    match link {
        Some(link) if link.status == status => Link { seq, ..link },
        link => Link {
            status,
            since: at,
            reason: reason.to_owned(),
            seq,
            institution: link.and_then(|link| link.institution),
        },
    }
}

/// The problem that a link in this state is, or the end of it.
pub fn problem(link_id: &str, link: &Link) -> Change {
    let subject = format!("link {link_id}");
    if !link.status.needs_its_user() {
        return Change::Close(Kind::LinkBlocked, subject);
    }
    let (text, next_step) = sentence(link);
    Change::Open(Problem {
        kind: Kind::LinkBlocked,
        subject,
        text: format!("{text} ({})", link.reason),
        next_step: next_step.to_owned(),
        evidence: None,
    })
}

fn sentence(link: &Link) -> (&'static str, &'static str) {
    match (link.status, link.reason.as_str()) {
        (Status::TokenRequired, _) => (
            "the institution asks for a new token, nothing of the link is fetched",
            "have the link's user give the token in Belvo's widget (update mode); the webhooks that follow start the fetches again",
        ),
        (Status::Unconfirmed, _) => (
            "the link was never completed, nothing of it is fetched",
            "have the link's user finish connecting in Belvo's widget; the webhooks that follow start the fetches again",
        ),
        (_, "consent_without_accounts") => (
            "the link's consent covers no account any more, nothing of it is fetched",
            "have the link's user consent again, with at least one account; the webhooks that follow start the fetches again",
        ),
        (_, "activation_required" | "activation_failed") => (
            "the user's internet banking is not activated, nothing of the link is fetched",
            "have the link's user activate internet banking at the institution; the webhooks that follow start the fetches again",
        ),
        _ => (
            "the institution does not accept the link's credentials any more, nothing of it is fetched",
            "have the link's user update the credentials in Belvo's widget (update mode); the webhooks that follow start the fetches again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    /// Nothing came while it was asked.
    const ASKED: Asked = Asked {
        then: Seq(9),
        now: Seq(9),
    };

    fn works() -> Said {
        Said::Works("historical_update".to_owned())
    }

    fn news(news: LinkNews) -> Said {
        Said::News(news, "code".to_owned())
    }

    fn after(said: &[Said]) -> Option<Link> {
        said.iter().zip(1..).fold(None, |link, (said, seq)| {
            heard(link, said, Seq(seq), NOW).link
        })
    }

    fn status(said: &[Said]) -> Option<Status> {
        after(said).map(|link| link.status)
    }

    #[test]
    fn trouble_blocks_a_link_and_its_data_unblocks_it() {
        let invalid = news(LinkNews::Invalid);
        assert_eq!(status(&[works()]), Some(Status::Valid));
        assert_eq!(status(&[works(), invalid.clone()]), Some(Status::Invalid));
        assert_eq!(status(&[invalid.clone(), works()]), Some(Status::Valid));
        assert_eq!(
            status(&[news(LinkNews::TokenRequired)]),
            Some(Status::TokenRequired)
        );
        assert!(heard(after(&[invalid]), &works(), Seq(9), NOW).look);
    }

    #[test]
    fn a_deleted_link_that_speaks_is_looked_at_and_stays_deleted_until_its_record_is_there() {
        let link = after(&[news(LinkNews::Deleted)]);
        let moved = heard(link, &works(), Seq(2), NOW);
        assert!(moved.look);
        assert_eq!(
            moved.link.as_ref().map(|link| link.status),
            Some(Status::Deleted)
        );
        let read = |status| read(moved.link.clone(), status, ASKED, NOW).map(|link| link.status);
        assert_eq!(read(None), Some(Status::Deleted));
        assert_eq!(read(Some("valid")), Some(Status::Valid));
        assert_eq!(read(Some("invalid")), Some(Status::Invalid));
    }

    #[test]
    fn a_record_that_was_asked_for_before_the_newest_webhook_does_not_decide() {
        let link = after(&[works(), news(LinkNews::TokenRequired)]);
        let outrun = Asked {
            then: Seq(1),
            now: Seq(2),
        };
        assert_eq!(read(link.clone(), Some("valid"), outrun, NOW), link);
        assert_eq!(refused(link.clone(), "invalid_link", outrun, NOW), link);
    }

    #[test]
    fn a_status_that_is_new_to_us_changes_nothing() {
        let link = after(&[news(LinkNews::Invalid)]);
        assert_eq!(
            read(link, Some("sleeping"), ASKED, NOW).map(|link| link.status),
            Some(Status::Invalid)
        );
        assert_eq!(
            read(None, Some("deleted?"), ASKED, NOW).map(|link| link.status),
            Some(Status::Valid)
        );
    }

    #[test]
    fn a_refused_fetch_says_what_the_link_needs() {
        let status = |code| refused(None, code, ASKED, NOW).map(|link| link.status);
        assert_eq!(status("token_required"), Some(Status::TokenRequired));
        assert_eq!(status("unconfirmed_link"), Some(Status::Unconfirmed));
        assert_eq!(status("login_error"), Some(Status::Invalid));
    }

    #[test]
    fn an_erased_link_stays_erased() {
        let link = Some(Link {
            status: Status::Erased,
            since: NOW,
            reason: "erase".to_owned(),
            seq: Seq(1),
            institution: None,
        });
        assert_eq!(heard(link.clone(), &works(), Seq(5), NOW).link, link);
        assert_eq!(read(link.clone(), Some("valid"), ASKED, NOW), link);
        assert_eq!(refused(link.clone(), "invalid_link", ASKED, NOW), link);
    }

    #[test]
    fn only_what_needs_a_person_is_a_problem() {
        let change = |said| problem("l", &after(&[said]).expect("a link"));
        assert!(matches!(change(works()), Change::Close(..)));
        assert!(matches!(change(news(LinkNews::Deleted)), Change::Close(..)));
        assert!(matches!(change(news(LinkNews::Invalid)), Change::Open(..)));
    }

    proptest! {
        #[test]
        fn hearing_rows_again_changes_nothing(kinds in proptest::collection::vec(0u8..5, 1..12)) {
            let said: Vec<_> = kinds.iter().map(|kind| match kind {
                0 => works(),
                1 => news(LinkNews::Invalid),
                2 => news(LinkNews::TokenRequired),
                3 => news(LinkNews::Deleted),
                _ => news(LinkNews::Look),
            }).collect();
            let once = after(&said);
            let known = once.as_ref().map_or(Seq(0), |link| link.seq);
            let twice = said.iter().zip(1..).filter(|(_, seq)| Seq(*seq) <= known)
                .fold(once.clone(), |link, (said, seq)| heard(link, said, Seq(seq), NOW).link);
            prop_assert_eq!(once, twice);
        }
    }
}
