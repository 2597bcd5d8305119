//! The listener's certificate through the years: its files are looked at, a new pair is taken when it is whole, the old
//! one is kept while it is not, and a person is told before it expires. Decides; writes nothing down.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::intake::tls::{Files, Held, Pair};
use crate::limits::{
    CERTIFICATE_ENDS, CERTIFICATE_ENDS_SOON, CERTIFICATE_LOOK_ANYWAY, CERTIFICATE_LOOK_EVERY,
    CERTIFICATE_SETTLED,
};
use crate::store::problems::{Change, Kind, Problem};
use crate::system::certificate::Validity;
use crate::system::clock::UnixMs;
use crate::system::errors::sentence;
use crate::system::files::Mark;

/// The files of the listener's certificate as they were read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) files: Files,
    pub(super) marks: [Mark; 2],
    pub(super) pair: Pair,
}

impl Read {
    /// Reads them. What changes meanwhile has other marks and is seen at the next look.
    pub(super) fn from(files: Files) -> Result<Self, crate::intake::tls::TlsError> {
        let marks = files.marks();
        let pair = files.read()?;
        Ok(Self { files, marks, pair })
    }
}

/// The certificate that is served.
#[derive(Debug)]
pub(super) struct Certificate {
    files: Files,
    seen: [Mark; 2],
    held: Arc<Held>,
    /// When it is valid; nothing as long as there is none.
    validity: Option<Validity>,
    /// Whether the files have changed and were not read since.
    changed: bool,
    /// Why the files cannot be used, if they cannot.
    broken: Option<String>,
}

impl Certificate {
    /// The one that `held` was made with.
    pub(super) fn new(
        files: Files,
        marks: [Mark; 2],
        validity: Option<Validity>,
        held: Arc<Held>,
    ) -> Self {
        Self {
            files,
            seen: marks,
            held,
            validity,
            changed: false,
            broken: None,
        }
    }

    /// Serves another one from now on.
    pub(super) fn take(&mut self, read: Read) {
        self.files = read.files;
        self.seen = read.marks;
        self.validity = Some(read.pair.validity);
        self.held.replace(read.pair);
        self.changed = false;
        self.broken = None;
    }

    /// Until when the served one is valid.
    pub(super) fn until(&self) -> Option<UnixMs> {
        self.validity.map(|validity| validity.until)
    }

    /// The files that are looked at.
    pub(super) fn paths(&self) -> [&Path; 2] {
        [&self.files.certificate, &self.files.key]
    }

    /// Looks at the files, takes what is new and whole, and says when to look again, even if nobody tells of a change.
    /// Files that have just changed may still be being written, so they are read when they look the same twice.
    pub(super) fn look(&mut self, now: UnixMs) -> Duration {
        let marks = self.files.marks();
        if marks != self.seen {
            self.seen = marks;
            self.changed = true;
            return CERTIFICATE_SETTLED;
        }
        // What could not be used may have become readable without looking any different.
        if self.changed || self.broken.is_some() {
            self.changed = false;
            self.try_again(now);
        }
        match self.until() {
            // A clock that is not set yet is set without a word.
            Some(until) if self.broken.is_none() && now.is_plausible() && until > now => {
                CERTIFICATE_LOOK_ANYWAY.min(until.since(now))
            }
            _ => CERTIFICATE_LOOK_EVERY,
        }
    }

    fn try_again(&mut self, now: UnixMs) {
        match Read::from(self.files.clone()) {
            Ok(read)
                if has_ended(read.pair.validity, now)
                    && self.validity.is_some_and(|served| !has_ended(served, now)) =>
            {
                self.broken = Some(format!(
                    "{} expired on {}",
                    self.files.certificate.display(),
                    read.pair.validity.until
                ));
            }
            Ok(read) => {
                self.take(read);
                info!(
                    "the certificate {} was changed and is used from now on; it is valid until {}",
                    self.files.certificate.display(),
                    self.until()
                        .map(|until| until.to_string())
                        .unwrap_or_default()
                );
            }
            Err(error) => self.broken = Some(sentence(&error)),
        }
    }

    /// What a person should know about it.
    pub(super) fn problems(&self, now: UnixMs) -> Vec<Change> {
        let mut changes = vec![change(Kind::CertificateUnusable, self.unusable())];
        // A clock that was not set yet knows no day.
        if now.is_plausible() {
            let (ending, ended) = match self.validity {
                Some(validity) if has_ended(validity, now) => (None, Some(self.ended(validity))),
                Some(validity) => (self.ending(validity, now), None),
                None => (None, None),
            };
            changes.push(change(Kind::CertificateExpiring, ending));
            changes.push(change(Kind::CertificateExpired, ended));
        }
        changes
    }

    fn unusable(&self) -> Option<(String, &'static str)> {
        let why = self.broken.as_ref()?;
        let served = match self.until() {
            Some(until) => format!("the one before is served until {until}"),
            None => "there is none before it".to_owned(),
        };
        Some((
            format!("the certificate or its key was changed and cannot be used, {served}: {why}"),
            "put a certificate chain and its own key in place; they are taken by themselves, or at once by: systemctl reload belvo-gateway",
        ))
    }

    fn ending(&self, validity: Validity, now: UnixMs) -> Option<(String, &'static str)> {
        let left = validity.until.since(now);
        let path = self.files.certificate.display();
        let until = validity.until;
        let text = if left < CERTIFICATE_ENDS_SOON {
            format!(
                "the certificate {path} expires on {until}, in a few days, and was not renewed; after that Belvo cannot deliver any webhook"
            )
        } else if left < CERTIFICATE_ENDS {
            format!("the certificate {path} expires on {until} and should have been renewed by now")
        } else {
            return None;
        };
        Some((
            text,
            "find out why it was not renewed (with certbot: certbot renew --dry-run) and renew it; new files are taken by themselves",
        ))
    }

    fn ended(&self, validity: Validity) -> (String, &'static str) {
        let (path, until) = (self.files.certificate.display(), validity.until);
        (
            format!(
                "the certificate {path} expired on {until}: Belvo cannot deliver any webhook until there is a new one"
            ),
            "renew it now; new files are taken by themselves",
        )
    }
}

/// Where TLS is somebody else's business, there is nothing to know.
pub(super) fn no_problems() -> Vec<Change> {
    [
        Kind::CertificateUnusable,
        Kind::CertificateExpiring,
        Kind::CertificateExpired,
    ]
    .map(|kind| change(kind, None))
    .into()
}

fn has_ended(validity: Validity, now: UnixMs) -> bool {
    now.is_plausible() && validity.until <= now
}

fn change(kind: Kind, said: Option<(String, &'static str)>) -> Change {
    let subject = String::new();
    match said {
        None => Change::Close(kind, subject),
        Some((text, next_step)) => Change::Open(Problem {
            kind,
            subject,
            text,
            next_step: next_step.to_owned(),
            evidence: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;
    use crate::intake::tls;
    use crate::standin::{Certificates, write_secret};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Files of a certificate on the disk, and the gateway's view of them.
    struct Place {
        directory: TempDir,
        authority: Certificates,
        served: Certificate,
    }

    impl Place {
        fn valid_for(days: u32) -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let authority = Certificates::create(directory.path()).expect("an authority");
            issue(&authority, "served", days);
            let files = Files {
                certificate: directory.path().join("served.pem"),
                key: directory.path().join("served.key"),
            };
            let Read { files, marks, pair } = Read::from(files).expect("a good pair");
            let validity = pair.validity;
            let (_, held) = tls::server(Some(pair)).expect("a server");
            Self {
                directory,
                authority,
                served: Certificate::new(files, marks, Some(validity), held),
            }
        }

        /// Makes a pair beside the one that is served.
        fn renew(&self, days: u32) {
            issue(&self.authority, "new", days);
        }

        /// Puts a file of it in place of the served one.
        fn put(&self, end: &str) {
            let path = |name: &str| self.directory.path().join(format!("{name}.{end}"));
            fs::rename(path("new"), path("served")).expect("two files");
        }

        /// Looks until the files have settled.
        fn look(&mut self) {
            while self.served.look(UnixMs::now()) == CERTIFICATE_SETTLED {}
        }

        fn until(&self) -> UnixMs {
            self.served.until().expect("a certificate")
        }

        fn days_left(&self) -> u64 {
            let left = self.until().since(UnixMs::now()) + DAY / 2;
            left.as_secs() / DAY.as_secs()
        }

        /// What is said about new files that cannot be used.
        fn unusable(&self) -> Option<String> {
            self.problems_at(UnixMs::now())
                .into_iter()
                .find(|(kind, _)| *kind == Kind::CertificateUnusable)
                .map(|(_, text)| text)
        }

        fn problems_at(&self, now: UnixMs) -> Vec<(Kind, String)> {
            let open = |change| match change {
                Change::Open(problem) => Some((problem.kind, problem.text)),
                Change::Close(..) => None,
            };
            self.served
                .problems(now)
                .into_iter()
                .filter_map(open)
                .collect()
        }
    }

    fn issue(authority: &Certificates, name: &str, days: u32) {
        authority
            .issue_until(name, SystemTime::now() + DAY * days)
            .expect("a certificate");
    }

    #[test]
    fn a_whole_new_pair_is_taken_when_it_has_settled() {
        let mut place = Place::valid_for(10);
        assert_eq!(place.served.look(UnixMs::now()), CERTIFICATE_LOOK_ANYWAY);
        place.renew(90);
        place.put("pem");
        place.put("key");
        assert_eq!(place.served.look(UnixMs::now()), CERTIFICATE_SETTLED);
        assert_eq!(place.days_left(), 10);
        assert_eq!(place.served.look(UnixMs::now()), CERTIFICATE_LOOK_ANYWAY);
        assert_eq!(place.days_left(), 90);
        assert_eq!(place.unusable(), None);
    }

    #[test]
    fn a_certificate_that_came_before_its_key_waits_for_it() {
        let mut place = Place::valid_for(10);
        place.renew(90);
        place.put("pem");
        place.look();
        let said = place.unusable().expect("a problem");
        let until = place.until().to_string();
        assert!(
            said.contains("the key is another certificate's") && said.contains(&until),
            "{said}"
        );
        assert_eq!(place.days_left(), 10);
        place.put("key");
        place.look();
        assert_eq!((place.days_left(), place.unusable()), (90, None));
    }

    #[test]
    fn a_half_written_file_is_not_taken_and_the_whole_one_is() {
        let mut place = Place::valid_for(10);
        place.renew(90);
        let new = place.directory.path().join("new.pem");
        let whole = fs::read_to_string(&new).expect("a chain");
        let served = place.served.files.certificate.clone();
        place.put("key");
        for (text, expected) in [
            ("", "holds no certificate"),
            (&whole[..200], "ends in the middle of a certificate"),
            (
                &whole[..whole.len() - 5],
                "ends in the middle of a certificate",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "has no validity",
            ),
        ] {
            fs::write(&served, text).expect("a file");
            place.look();
            let said = place.unusable().expect("a problem");
            assert!(said.contains(expected), "{said}");
            assert_eq!(place.days_left(), 10);
        }
        fs::write(&served, whole).expect("a file");
        place.look();
        assert_eq!((place.days_left(), place.unusable()), (90, None));
    }

    #[test]
    fn what_became_usable_without_looking_any_different_is_taken() {
        let mut place = Place::valid_for(10);
        place.renew(90);
        place.put("pem");
        place.put("key");
        let key = place.served.files.key.clone();
        set_mode(&key, 0o644);
        place.look();
        let said = place.unusable().expect("a problem");
        assert!(said.contains("chmod o-rwx"), "{said}");
        set_mode(&key, 0o600);
        place.look();
        assert_eq!((place.days_left(), place.unusable()), (90, None));
    }

    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn files_that_are_gone_leave_the_served_pair_as_it_is() {
        let mut place = Place::valid_for(30);
        fs::remove_file(&place.served.files.key).expect("a key");
        place.look();
        assert!(
            place
                .unusable()
                .expect("a problem")
                .contains("No such file")
        );
        write_secret(&place.served.files.key, "no key").expect("a file");
        place.look();
        assert!(
            place
                .unusable()
                .expect("a problem")
                .contains("holds no private key")
        );
        assert_eq!(place.days_left(), 30);
    }

    #[test]
    fn an_expired_pair_never_takes_the_place_of_a_good_one() {
        let mut place = Place::valid_for(30);
        place
            .authority
            .issue_until("new", SystemTime::now() - DAY)
            .expect("a certificate");
        place.put("pem");
        place.put("key");
        place.look();
        assert!(place.unusable().expect("a problem").contains("expired on"));
        assert_eq!(place.days_left(), 30);
    }

    #[test]
    fn files_that_are_still_being_written_are_not_read() {
        let mut place = Place::valid_for(30);
        for length in 0..10 {
            let file = File::options()
                .write(true)
                .open(&place.served.files.certificate)
                .expect("a file");
            file.set_len(length).expect("another length");
            assert_eq!(place.served.look(UnixMs::now()), CERTIFICATE_SETTLED);
        }
        assert_eq!(place.unusable(), None);
    }

    #[test]
    fn the_end_of_a_certificate_is_said_at_21_days_urgently_at_7_and_when_it_has_come() {
        let place = Place::valid_for(60);
        let until = place.until();
        let minute = Duration::from_secs(60);
        let at = |left: Duration| place.problems_at(until.minus(left));
        assert_eq!(at(CERTIFICATE_ENDS + minute), []);
        for (left, words) in [
            (CERTIFICATE_ENDS - minute, "should have been renewed"),
            (CERTIFICATE_ENDS_SOON - minute, "in a few days"),
        ] {
            let said = at(left);
            let [(Kind::CertificateExpiring, text)] = &said[..] else {
                panic!("{said:?}");
            };
            assert!(
                text.contains(words) && text.contains(&until.to_string()),
                "{text}"
            );
        }
        let said = place.problems_at(until);
        let [(Kind::CertificateExpired, text)] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(text.contains("expired on"), "{text}");
    }

    #[test]
    fn a_clock_in_1970_neither_opens_nor_closes_anything_about_days() {
        let place = Place::valid_for(1);
        let only = [Change::Close(Kind::CertificateUnusable, String::new())];
        assert_eq!(place.served.problems(UnixMs(5_000)), only);
    }
}
