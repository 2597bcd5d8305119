//! A certificate from an authority that speaks ACME (RFC 8555): account, order, the challenge on the listener's own port,
//! key and chain into one file. Asks once; when to ask is decided elsewhere. Everything it keeps is closed to others.

mod client;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use thiserror::Error;
use tokio::time::timeout;

use crate::config::Acme;
use crate::fetch::{Roots, SetupError};
use crate::intake::challenge::{Challenges, Opened};
use crate::limits::ACME_WAIT;
use crate::system::files::{self, ReadError};
use client::Client;

/// Why there is no new certificate.
#[derive(Debug, Error)]
pub enum Failed {
    /// The client cannot be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The authority said so, or could not be reached.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// The authority looked for the challenge and did not find it.
    #[error(
        "the authority could not check {domain}: {why}; it connects to port 443 of that name, which must reach this gateway"
    )]
    Challenge {
        /// The name.
        domain: String,
        /// What it said.
        why: String,
    },
    /// The authority offers no challenge that can be answered here.
    #[error(
        "the authority does not offer tls-alpn-01; use [tls] mode = \"files\" with another client"
    )]
    NoChallenge,
    /// The certificate of the challenge cannot be made.
    #[error("the challenge cannot be shown: {0}")]
    Show(String),
    /// Something cannot be kept.
    #[error("{} cannot be written: {source}; the state directory must be writable", path.display())]
    Keep {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The account cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It took too long.
    #[error("the authority took longer than {} s", ACME_WAIT.as_secs())]
    Late,
}

/// Gets a certificate and puts it into its file.
///
/// # Errors
/// When there is none; what is there already stays as it was.
pub async fn obtain(
    acme: &Acme,
    roots: &Roots,
    state_directory: &Path,
    challenges: &Arc<Challenges>,
) -> Result<(), Failed> {
    // Large, and wanted once in two months: not on the stack of all that is done beside it.
    let asked = Box::pin(ask(acme, roots, state_directory, challenges));
    timeout(ACME_WAIT, asked).await.map_err(|_| Failed::Late)?
}

async fn ask(
    acme: &Acme,
    roots: &Roots,
    state_directory: &Path,
    challenges: &Arc<Challenges>,
) -> Result<(), Failed> {
    let account = account(acme, roots, &acme.directory(state_directory)).await?;
    let names = [Identifier::Dns(acme.domain.clone())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let opened = answer(&mut order, acme, challenges).await?;
    let status = order.poll_ready(&patience()).await;
    drop(opened);
    if !matches!(status, Ok(OrderStatus::Ready)) {
        return Err(why_not(&mut order, acme, status).await);
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&patience()).await?;
    write(&acme.certificate_file(state_directory), &(key + &chain))
}

/// The account at this authority: the one that was kept, or a new one, which is kept before it is used.
async fn account(acme: &Acme, roots: &Roots, directory: &Path) -> Result<Account, Failed> {
    let file = directory.join("account.json");
    let builder = || Client::new(roots).map(|client| Account::builder_with_http(Box::new(client)));
    if file.exists() {
        let kept: Result<AccountCredentials, _> = serde_json::from_str(&files::read_small(&file)?);
        if let Ok(credentials) = kept {
            return Ok(builder()?.from_credentials(credentials).await?);
        }
    }
    let contact: Vec<_> = acme.contact.as_deref().into_iter().collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder()?
        .create(&new, acme.directory.to_string(), None)
        .await?;
    let text = serde_json::to_string(&credentials).map_err(instant_acme::Error::from)?;
    write(&file, &text)?;
    Ok(account)
}

/// Shows the challenge of an order and says that it is there; nothing when the authority remembers an earlier one.
async fn answer(
    order: &mut Order,
    acme: &Acme,
    challenges: &Arc<Challenges>,
) -> Result<Option<Opened>, Failed> {
    let mut opened = None;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization
            .challenge(ChallengeType::TlsAlpn01)
            .ok_or(Failed::NoChallenge)?;
        let digest = challenge.key_authorization().digest();
        opened = Some(show(acme, challenges, digest.as_ref()).map_err(Failed::Show)?);
        challenge.set_ready().await?;
    }
    Ok(opened)
}

fn show(acme: &Acme, challenges: &Arc<Challenges>, digest: &[u8]) -> Result<Opened, String> {
    let certificate = || {
        let mut params = CertificateParams::new(vec![acme.domain.clone()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>((certificate, key))
    };
    let (certificate, key) = certificate().map_err(|error| error.to_string())?;
    challenges
        .open(&acme.domain, certificate.der().clone(), key.into())
        .map_err(|error| error.to_string())
}

/// An order is checked within seconds; an authority that is busy says when to ask again.
fn patience() -> RetryPolicy {
    RetryPolicy::new().timeout(ACME_WAIT)
}

/// What the authority has to say about a challenge that it did not find.
async fn why_not(
    order: &mut Order,
    acme: &Acme,
    status: Result<OrderStatus, instant_acme::Error>,
) -> Failed {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        if let Some(problem) = state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.as_ref())
        {
            return Failed::Challenge {
                domain: acme.domain.clone(),
                why: problem.to_string(),
            };
        }
    }
    match status {
        Err(error) => error.into(),
        Ok(status) => Failed::Challenge {
            domain: acme.domain.clone(),
            why: format!("the order is {status:?}"),
        },
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failed> {
    let write = || {
        let directory = path.parent().ok_or(io::ErrorKind::NotFound)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let next = path.with_extension("next");
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| Failed::Keep {
        path: path.to_owned(),
        source,
    })
}
