//! A certificate chain as a client would judge it: by the authorities that it knows, the time and the name. Opens no
//! connection; knows the certificates and not where they come from.

use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use thiserror::Error as ThisError;

use super::certificate::names;
use super::clock::UnixMs;
use super::tls::provider;

/// Why a client would not trust a chain.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Distrust {
    /// It vouches for itself.
    #[error("it is self-signed: no authority vouches for it")]
    SelfSigned,
    /// The way to an authority breaks off.
    #[error(
        "the chain is not complete: the certificate of the authority that issued the last of its {0} is missing"
    )]
    Incomplete(usize),
    /// The authority is nobody's that a client knows.
    #[error(
        "it ends in an authority that this machine does not know, and so most likely Belvo does not"
    )]
    UnknownAuthority,
    /// It is for other names.
    #[error("it is not for the name {0}")]
    Name(String),
    /// The time is over.
    #[error("it has expired, or one in its chain has")]
    Expired,
    /// The time has not come.
    #[error("it is not valid yet by this machine's clock")]
    NotYet,
    /// Anything else.
    #[error("a client refuses it: {0}")]
    Other(String),
}

/// What a client says about a chain, the server's own certificate first; about the name when there is one.
///
/// # Errors
/// When it would not go on.
pub fn judge(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    name: Option<&str>,
    now: UnixMs,
) -> Result<(), Distrust> {
    let other = |error: Error| Distrust::Other(error.to_string());
    let Some((own, intermediates)) = chain.split_first() else {
        return Err(Distrust::Incomplete(0));
    };
    let parsed = ParsedCertificate::try_from(own).map_err(other)?;
    let since = Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        roots,
        intermediates,
        UnixTime::since_unix_epoch(since),
        provider().signature_verification_algorithms.all,
    )
    .map_err(|error| match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => unknown(chain),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Distrust::Expired,
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Distrust::NotYet,
        error => other(error),
    })?;
    let Some(name) = name else { return Ok(()) };
    let wrong = || Distrust::Name(name.to_owned());
    let server = ServerName::try_from(name).map_err(|_| wrong())?;
    verify_server_name(&parsed, &server).map_err(|_| wrong())
}

/// Why no authority was found.
fn unknown(chain: &[CertificateDer<'_>]) -> Distrust {
    let is_its_own = |der: Option<&CertificateDer<'_>>| {
        der.and_then(|der| names(der))
            .is_some_and(|names| names.issuer == names.subject)
    };
    if is_its_own(chain.first()) {
        Distrust::SelfSigned
    } else if is_its_own(chain.last()) {
        Distrust::UnknownAuthority
    } else {
        Distrust::Incomplete(chain.len())
    }
}

/// The first certificate of a chain that did not issue the one before it, counted from 1. Not every client looks for the
/// right one.
pub fn misplaced(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let issued = |pair: &[CertificateDer<'_>]| match (names(&pair[0]), names(&pair[1])) {
        (Some(issued), Some(issuer)) => issued.issuer == issuer.subject,
        _ => false,
    };
    let found = chain.windows(2).position(|pair| !issued(pair))?;
    Some(found + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    /// An authority, one below it, and a certificate for `localhost` that the lower one issued.
    fn three() -> (RootCertStore, [CertificateDer<'static>; 3]) {
        let root = Issuer::self_signed(authority("root"), key()).expect("an authority");
        let middle = Issuer::signed_by(authority("middle"), key(), &root).expect("an authority");
        let own = CertificateParams::new(vec!["localhost".to_owned()])
            .and_then(|params| params.signed_by(&key(), &middle))
            .expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).expect("a root");
        let chain = [own.der(), middle.der(), root.der()].map(Clone::clone);
        (roots, chain)
    }

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params
    }

    fn key() -> KeyPair {
        KeyPair::generate().expect("a key")
    }

    #[test]
    fn a_whole_chain_is_trusted_for_its_name_and_no_other() {
        let (roots, chain) = three();
        let judge = |chain: &[_], name| judge(chain, &roots, name, UnixMs::now());
        assert_eq!(judge(&chain[..2], Some("localhost")), Ok(()));
        assert_eq!(judge(&chain, None), Ok(()));
        let other = "gateway.example.com";
        assert_eq!(
            judge(&chain[..2], Some(other)),
            Err(Distrust::Name(other.to_owned()))
        );
    }

    #[test]
    fn what_is_wrong_with_a_chain_is_told_apart() {
        let (roots, chain) = three();
        let now = UnixMs::now();
        let none = RootCertStore::empty();
        assert_eq!(
            judge(&chain[..1], &roots, None, now),
            Err(Distrust::Incomplete(1))
        );
        assert_eq!(
            judge(&chain, &none, None, now),
            Err(Distrust::UnknownAuthority)
        );
        assert_eq!(
            judge(&chain[..2], &none, None, now),
            Err(Distrust::Incomplete(2))
        );
        let alone = CertificateParams::new(vec!["localhost".to_owned()])
            .and_then(|params| params.self_signed(&key()))
            .expect("a certificate");
        let alone = [alone.der().clone()];
        assert_eq!(judge(&alone, &roots, None, now), Err(Distrust::SelfSigned));
        assert_eq!(
            judge(&chain, &roots, None, UnixMs(i64::MAX / 2)),
            Err(Distrust::Expired)
        );
        assert_eq!(
            judge(&chain, &roots, None, UnixMs(0)),
            Err(Distrust::NotYet)
        );
    }

    #[test]
    fn a_certificate_that_did_not_issue_the_one_before_it_is_misplaced() {
        let (_, [own, middle, root]) = three();
        assert_eq!(
            misplaced(&[own.clone(), middle.clone(), root.clone()]),
            None
        );
        assert_eq!(
            misplaced(&[own.clone(), root.clone(), middle.clone()]),
            Some(2)
        );
        assert_eq!(misplaced(&[own]), None);
    }
}
