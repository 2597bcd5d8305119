//! The DER of a certificate -> from when until when it is valid. Pure. rustls checks everything else; this reads only the
//! two times and the two names, which it does not hand out (RFC 5280 section 4.1).

use time::PrimitiveDateTime;
use time::macros::format_description;

use super::clock::UnixMs;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`, which holds the version.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its `notBefore`.
    pub from: UnixMs,
    /// Its `notAfter`.
    pub until: UnixMs,
}

/// When the certificate in `der` is valid; nothing when it is no certificate.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let mut certificate = Elements(Elements(der).content(SEQUENCE)?);
    let mut signed = Elements(certificate.content(SEQUENCE)?);
    // Only a certificate of version 1 has none.
    signed.content(VERSION);
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        signed.content(tag)?;
    }
    let mut validity = Elements(signed.content(SEQUENCE)?);
    Some(Validity {
        from: validity.time()?,
        until: validity.time()?,
    })
}

/// Who issued a certificate, and whose it is: the bytes of both names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// Its `issuer`.
    pub issuer: &'a [u8],
    /// Its `subject`.
    pub subject: &'a [u8],
}

/// The names in the certificate in `der`; nothing when it is no certificate.
pub fn names(der: &[u8]) -> Option<Names<'_>> {
    let mut certificate = Elements(Elements(der).content(SEQUENCE)?);
    let mut signed = Elements(certificate.content(SEQUENCE)?);
    signed.content(VERSION);
    signed.content(INTEGER)?;
    signed.content(SEQUENCE)?;
    let issuer = signed.content(SEQUENCE)?;
    signed.content(SEQUENCE)?;
    let subject = signed.content(SEQUENCE)?;
    Some(Names { issuer, subject })
}

/// DER elements one after the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Takes the content of the next element, if it has this tag.
    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    fn time(&mut self) -> Option<UnixMs> {
        let text = match self.content(UTC_TIME) {
            Some(content) => {
                let text = str::from_utf8(content).ok()?;
                let century = if text < "50" { "20" } else { "19" };
                format!("{century}{text}")
            }
            None => str::from_utf8(self.content(GENERALIZED_TIME)?)
                .ok()?
                .to_owned(),
        };
        let form = format_description!("[year][month][day][hour][minute][second]Z");
        let time = PrimitiveDateTime::parse(&text, form).ok()?;
        Some(UnixMs(time.assume_utc().unix_timestamp() * 1_000))
    }
}

/// A length and what follows it. No certificate is longer than three bytes can say.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let more = match first {
        0..=0x7f => return Some((usize::from(first), rest)),
        0x81..=0x83 => usize::from(first - 0x80),
        _ => return None,
    };
    let (length, rest) = rest.split_at_checked(more)?;
    let length = length
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some((length, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    /// A certificate with these times, in seconds since 1970.
    fn certificate(name: &str, from: i64, until: i64) -> Vec<u8> {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (at(from), at(until));
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        // Both forms of a time: two digits for the year up to 2049, four digits from 2050 on.
        #[test]
        fn the_times_that_were_signed_are_the_times_that_are_read(
            name in "[a-z]{1,30}",
            from in -600_000_000i64..4_000_000_000,
            days in 0i64..40_000,
        ) {
            let until = from + days * 86_400;
            prop_assert_eq!(
                validity(&certificate(&name, from, until)),
                Some(Validity { from: UnixMs(from * 1_000), until: UnixMs(until * 1_000) })
            );
        }

        #[test]
        fn a_certificate_that_is_cut_off_or_changed_is_read_or_not_and_nothing_else(
            keep in 0usize..600, at in 0usize..600, byte in any::<u8>()
        ) {
            let mut der = certificate("localhost", 0, 1);
            let at = at % der.len();
            der[at] = byte;
            der.truncate(keep);
            let _ = validity(&der);
        }

        #[test]
        fn any_bytes_are_a_certificate_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
        }
    }

    #[test]
    fn a_certificate_that_ends_before_its_times_has_none() {
        let der = certificate("localhost", 0, 1);
        for length in 0..der.len() {
            assert_eq!(validity(&der[..length]), None, "{length}");
        }
        assert!(validity(&der).is_some());
    }

    #[test]
    fn two_digits_of_a_year_are_this_century_up_to_49() {
        let time = |text: &str| {
            let mut der = vec![UTC_TIME, text.len() as u8];
            der.extend(text.as_bytes());
            Elements(&der).time().map(|at| at.day())
        };
        assert_eq!(time("491231235959Z").as_deref(), Some("2049-12-31"));
        assert_eq!(time("500101000000Z").as_deref(), Some("1950-01-01"));
        for wrong in ["", "Z", "4912312359Z", "491231235959+0000", "491331000000Z"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
