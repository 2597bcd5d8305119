//! Wiring: opens, binds, starts the threads, waits for a signal or for something to end, and stops in order. Decides
//! nothing about webhooks. Every long-lived part is watched: when one ends, for whatever reason, the process ends with an
//! error and the service manager starts it afresh, which the journal makes safe. What changes while it runs is in
//! `gateway/`.

mod after_start;
mod background;
mod certificate;
mod reload;
#[cfg_attr(not(feature = "acme"), path = "gateway/no_renewal.rs")]
mod renewal;
mod room;
mod storage;
mod upkeep;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Notify, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Origin, Settings, Tls};
use crate::database::damage::SetAside;
use crate::database::{OpenError, StateDirectory, WriteError, Writer, WriterFailed, open_writer};
use crate::drain::budget::Budget;
use crate::fetch::{Client, KeyFiles, Keys, Roots, SetupError, Target, roots_from};
use crate::intake::Intake;
use crate::intake::auth::Authorization;
use crate::intake::listener::{self, BindError};
use crate::intake::rules::Rules;
use crate::intake::tls::{self, TlsError};
use crate::journal::Journal;
use crate::limits::{AUTHORIZATION_VALUES_MAX, SHUTDOWN_WAIT};
use crate::notices::{Notice, Notices};
use crate::operate::{Failed, Operator, Order, Report};
use crate::store::{Store, VIEWS, salvage};
use crate::system::certificate::Validity;
use crate::system::clock::{Clock, UnixMs};
use crate::system::notify;
use crate::system::secret;
use crate::system::stop;

use background::Background;
use certificate::Certificate;
use reload::Reload;
use renewal::Renewal;

/// What the configuration's files hold: read before anything is opened, so that a mistake in one costs nothing.
#[derive(Debug)]
pub struct Material {
    tls: Option<certificate::Read>,
    /// Of the authority that certificates come from.
    authority: Roots,
    authorization: Authorization,
    keys: Option<Keys>,
    roots: Option<Arc<RootCertStore>>,
}

impl Material {
    /// When the listener's certificate is valid, if there is one.
    pub fn certificate(&self) -> Option<Validity> {
        self.tls.as_ref().map(|read| read.pair.validity)
    }
}

/// Why a file that the configuration names cannot be used.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// Certificate or key.
    #[error("[tls]: {0}")]
    Tls(#[from] TlsError),
    /// The authorization file.
    #[error("authorization: {0}")]
    Authorization(secret::Error),
    /// Too many values.
    #[error("authorization: {} values are too many; keep one, and two while it is being changed", .0)]
    AuthorizationValues(usize),
    /// The authority's certificates.
    #[error("[tls] ca-file: {0}")]
    Authority(SetupError),
    /// The API keys.
    #[error("API keys: {0}")]
    Keys(secret::Error),
    /// The API's certificates.
    #[error("[api] ca-file: {0}")]
    Roots(SetupError),
}

/// Why the gateway could not start, or ended.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The listener's TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The API client.
    #[error(transparent)]
    Client(#[from] SetupError),
    /// The writer gave up.
    #[error(transparent)]
    Writer(#[from] WriterFailed),
    /// The system refused something that is needed to run at all.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A part that should run as long as the process has ended.
    #[error(
        "the {part} has ended: {why}; ending, so that the service manager starts the gateway afresh"
    )]
    Ended {
        /// Which.
        part: &'static str,
        /// What it said.
        why: String,
    },
}

/// Reads the files that the settings name.
///
/// # Errors
/// When one cannot be read or holds something else.
pub fn read_material(settings: &Settings) -> Result<Material, MaterialError> {
    let tls = match (tls_files(settings), &settings.tls) {
        (None, _) => None,
        // One that cannot be used is got again.
        (Some(files), Tls::Acme(_)) => certificate::Read::from(files).ok(),
        (Some(files), _) => Some(certificate::Read::from(files)?),
    };
    let authority = match &settings.tls {
        Tls::Acme(acme) => acme.ca_file.as_deref().map(roots_from).transpose(),
        _ => Ok(None),
    };
    let authority = authority.map_err(MaterialError::Authority)?.map(Arc::new);
    let values = match &settings.listen.authorization_file {
        Some(path) => secret::read_lines(path).map_err(MaterialError::Authorization)?,
        None => Vec::new(),
    };
    if values.len() > AUTHORIZATION_VALUES_MAX {
        return Err(MaterialError::AuthorizationValues(values.len()));
    }
    let keys = key_files(settings)
        .map(|files| files.read())
        .transpose()
        .map_err(MaterialError::Keys)?;
    let roots = settings
        .api
        .ca_file
        .as_deref()
        .map(roots_from)
        .transpose()
        .map_err(MaterialError::Roots)?;
    Ok(Material {
        tls,
        authority,
        authorization: Authorization::new(values),
        keys,
        roots: roots.map(Arc::new),
    })
}

/// The files of the API keys, if there are any.
pub(crate) fn key_files(settings: &Settings) -> Option<KeyFiles> {
    let (id, password) = settings.api.keys.clone()?;
    Some(KeyFiles { id, password })
}

/// What requests are judged by: of the settings, and of the files that they name.
pub(crate) fn rules(settings: &Settings, authorization: Authorization) -> Rules {
    Rules {
        allow: settings.listen.allow.clone(),
        proxies: settings.listen.proxies.clone(),
        authorization,
        drift_alarm: settings.listen.drift_alarm,
    }
}

/// Serves until SIGTERM or SIGINT, and reads its configuration again on SIGHUP.
///
/// # Errors
/// When the gateway cannot start, or a part of it ended.
pub fn run(
    settings: &Settings,
    mut material: Material,
    notices: Notices,
    origin: Origin,
    sockets: Vec<std::net::TcpListener>,
) -> Result<(), GatewayError> {
    let directory = StateDirectory::lock(&settings.state_directory)?;
    let (connection, set_aside) = salvage::start(&directory, UnixMs::now())?;
    say_set_aside(set_aside, &notices);
    let runtime = runtime()?;
    let _in_runtime = runtime.enter();
    let handed_over = !sockets.is_empty();
    let listeners = listeners(settings, sockets)?;
    let (writer, writer_end) = Writer::start(directory, connection, VIEWS)?;
    writer.keep_free(&settings.state_directory, settings.storage.floor);
    let journal = Journal::new(writer.clone());
    let (tls, certificate) = tls_files(settings)
        .map(|files| serve_with(files, material.tls.take()))
        .transpose()?
        .unzip();
    let rules = rules(settings, std::mem::take(&mut material.authorization));
    let path = settings.listen.path.clone();
    let intake = Arc::new(Intake::new(path, rules, journal.clone(), notices.clone()));
    let reload = Reload {
        origin,
        started: settings.clone(),
        intake: Arc::clone(&intake),
        hangup: signal(SignalKind::hangup())?,
    };
    let renewal = renewal(settings, material.authority.take(), &intake);
    let changing = (reload, certificate, renewal);
    let drain = Background::start(settings, material, &writer, &journal, &notices, changing)?;
    runtime.block_on(serve(Serving {
        listeners,
        tls,
        intake,
        writer,
        writer_end,
        drain,
        settings,
        handed_over,
    }))
}

/// The sockets that were handed over, or, where there are none, those of the configured addresses.
fn listeners(
    settings: &Settings,
    sockets: Vec<std::net::TcpListener>,
) -> Result<Vec<TcpListener>, GatewayError> {
    if sockets.is_empty() {
        let addresses = settings.listen.addresses.iter();
        let bound = addresses.map(|address| listener::bind(*address));
        return Ok(bound.collect::<Result<_, _>>()?);
    }
    let adopted = sockets.into_iter().map(listener::adopt);
    Ok(adopted.collect::<Result<_, _>>()?)
}

/// Says that the file was damaged.
fn say_set_aside(set_aside: Option<SetAside>, notices: &Notices) {
    if let Some(SetAside { name, why }) = set_aside {
        notices.say(Notice::Warning(format!(
            "the file was damaged: {why}; what was damaged is kept as {name}, and what can be read is copied into the file in use"
        )));
    }
}

/// The files of the listener's certificate, if it does TLS.
pub(crate) fn tls_files(settings: &Settings) -> Option<tls::Files> {
    let (certificate, key) = match &settings.tls {
        Tls::Files { certificate, key } => (certificate.clone(), key.clone()),
        Tls::Acme(acme) => {
            let both = acme.certificate_file(&settings.state_directory);
            (both.clone(), both)
        }
        Tls::Off => return None,
    };
    Some(tls::Files { certificate, key })
}

/// The listener's side of TLS, and the certificate that upkeep sees to.
fn serve_with(
    files: tls::Files,
    read: Option<certificate::Read>,
) -> Result<(Arc<ServerConfig>, Certificate), GatewayError> {
    let marks = read.as_ref().map(|read| read.marks).unwrap_or_default();
    let pair = read.map(|read| read.pair);
    let validity = pair.as_ref().map(|pair| pair.validity);
    let (config, held) = tls::server(pair)?;
    Ok((config, Certificate::new(files, marks, validity, held)))
}

/// What gets certificates, if that is the gateway's own business.
fn renewal(settings: &Settings, roots: Roots, intake: &Arc<Intake>) -> Option<Renewal> {
    let Tls::Acme(acme) = &settings.tls else {
        return None;
    };
    Some(Renewal {
        acme: acme.clone(),
        roots,
        state_directory: settings.state_directory.clone(),
        intake: Arc::clone(intake),
        renewed: Arc::new(Notify::new()),
    })
}

/// Everything that runs.
struct Serving<'a> {
    listeners: Vec<TcpListener>,
    tls: Option<Arc<ServerConfig>>,
    intake: Arc<Intake>,
    writer: Writer,
    writer_end: oneshot::Receiver<Result<(), WriterFailed>>,
    drain: Background,
    settings: &'a Settings,
    /// Whether the listeners are the service manager's.
    handed_over: bool,
}

async fn serve(serving: Serving<'_>) -> Result<(), GatewayError> {
    let Serving {
        listeners,
        tls,
        intake,
        writer,
        mut writer_end,
        mut drain,
        settings,
        handed_over,
    } = serving;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<_>>()?;
    let (stop, stopped) = stop::pair();
    let notices = intake.notices.clone();
    let mut listening = tokio::spawn(listener::run(
        listeners,
        settings.listen.connections_max,
        tls,
        intake,
        stopped,
    ));
    announce(settings, &addresses, handed_over, &notices);
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        ended = &mut writer_end => Err(writer_ended(ended)),
        ended = &mut drain.end => Err(GatewayError::Ended { part: "drain", why: said(ended) }),
        ended = &mut listening => Err(GatewayError::Ended { part: "listener", why: said(ended) }),
        error = watchdog(&writer, &notices) => Err(GatewayError::Ended { part: "writer", why: error.to_string() }),
    };
    if let Ok(signal) = outcome {
        notices.say(Notice::News(format!(
            "stopping on {signal}: no more connections, what is being answered is finished"
        )));
    }
    // Who started us may have gone already; then there is nobody to tell.
    drop(notify::stopping());
    // First nobody asks for an append any more, then nobody for a change, then the writer has nothing left to write.
    stop.stop();
    if !listening.is_finished() {
        drop(listening.await);
    }
    drain.stop.stop();
    if outcome.is_ok() {
        // A log that is stuck holds up the drain's thread, and must not hold up the end.
        drop(timeout(SHUTDOWN_WAIT, drain.end).await);
        writer.close();
        drop(writer_end.await);
    }
    outcome.map(drop)
}

/// Says that the gateway serves: to the service manager, and to the log by way of the drain's thread.
fn announce(settings: &Settings, served: &[SocketAddr], handed_over: bool, notices: &Notices) {
    let (addresses, asked) = (list(served), list(&settings.listen.addresses));
    let by = if handed_over {
        " (handed over by the service manager)"
    } else {
        ""
    };
    if handed_over && addresses != asked {
        notices.say(Notice::Warning(format!(
            "listen.address names {asked}, and {addresses} is served: the service manager hands over what belvo-gateway.socket has; write the address there (systemctl edit belvo-gateway.socket), or have the gateway bind it (systemctl mask --now belvo-gateway.socket)",
        )));
    }
    let tls = if settings.tls == Tls::Off {
        "without"
    } else {
        "with"
    };
    notices.say(Notice::News(format!(
        "serving {} on {addresses}{}{by} {tls} TLS, keeping everything in {} (version {})",
        settings.environment,
        settings.listen.path,
        settings
            .state_directory
            .join(crate::database::FILE_NAME)
            .display(),
        env!("CARGO_PKG_VERSION"),
    )));
    for warning in warnings(settings) {
        notices.say(Notice::Warning(warning.to_owned()));
    }
    let mut status = format!("listening on {addresses}");
    if settings.api.keys.is_none() {
        status += "; no API keys, nothing is fetched";
    }
    if let Err(error) = notify::ready(&status) {
        notices.say(Notice::Warning(format!("the service manager could not be told that the gateway is ready: {error}; see that NOTIFY_SOCKET names its socket")));
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    addresses.join(", ")
}

/// What is legal in these settings and perhaps not meant.
fn warnings(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let authorization = settings.listen.authorization_file.is_none().then_some(
        "no Authorization value is configured: the source address alone decides who may speak; set one in Belvo's dashboard and as authorization-file",
    );
    let keys = settings.api.keys.is_none().then_some(
        "no API keys are configured: webhooks are kept, nothing is fetched; give belvo-secret-id and belvo-secret-password as credentials, or name their files in [api]",
    );
    authorization.into_iter().chain(keys)
}

/// Says that the gateway is alive, each time after a pass through the writer. A start afresh makes no room and no card
/// writable, so that is no reason to be killed. Ends only when the writer has.
async fn watchdog(writer: &Writer, notices: &Notices) -> WriteError {
    let Some(every) = notify::watchdog_interval() else {
        return std::future::pending().await;
    };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match writer.pulse().await {
            Err(WriteError::Ended) => return WriteError::Ended,
            Err(error) if !error.is_for_others_to_mend() => notices.say(Notice::Trouble {
                text: format!("the file cannot be written, so the watchdog is not fed: {error}"),
                next_step: "replace the card if this goes on; webhooks are answered 503 meanwhile",
            }),
            Ok(()) | Err(_) => {
                if let Err(error) = notify::alive() {
                    notices.say(Notice::Trouble {
                        text: format!("the watchdog cannot be fed: {error}"),
                        next_step: "see that the unit has NotifyAccess=main",
                    });
                }
            }
        }
    }
}

fn writer_ended(
    ended: Result<Result<(), WriterFailed>, oneshot::error::RecvError>,
) -> GatewayError {
    match ended {
        Ok(Err(failed)) => failed.into(),
        other => GatewayError::Ended {
            part: "writer",
            why: said(other),
        },
    }
}

fn said<T, E: std::fmt::Display, F: std::fmt::Display>(ended: Result<Result<T, E>, F>) -> String {
    match ended {
        Ok(Ok(_)) => "it stopped by itself".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// One thread, one runtime: a page of JSON being parsed or a slow name lookup on one never delays the other.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
}

/// Why nobody could take the place of a gateway that does not run.
#[derive(Debug, Error)]
pub enum StandbyError {
    /// The file, or the API's client.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A file that the configuration names.
    #[error(transparent)]
    Material(#[from] MaterialError),
}

/// The parts of a gateway that an operator's order needs, where none runs: the lock, the writer and, when there are
/// settings, the API. Nothing is received, planned or fetched.
#[derive(Debug)]
pub struct Standby {
    operator: Operator<Client>,
    end: oneshot::Receiver<Result<(), WriterFailed>>,
}

impl Standby {
    /// Takes the gateway's place. Call it in a runtime.
    ///
    /// # Errors
    /// When the file or the API cannot be used.
    pub fn take(
        directory: StateDirectory,
        settings: Option<&Settings>,
    ) -> Result<Self, StandbyError> {
        let client = settings.map(client).transpose()?.flatten();
        let connection = open_writer(&directory, VIEWS).map_err(GatewayError::from)?;
        let state_directory = directory.path().to_owned();
        let (writer, end) =
            Writer::start(directory, connection, VIEWS).map_err(GatewayError::from)?;
        let (per_second, burst) = settings.map_or((1.0, 1), |settings| {
            (settings.api.requests_per_second, settings.api.burst)
        });
        let (_keys, api) = watch::channel(client.map(Arc::new));
        Ok(Self {
            operator: Operator {
                state_directory,
                store: Store::new(writer.clone()),
                writer,
                api,
                budget: Arc::new(Budget::new(per_second, burst)),
                clock: Clock::of_machine(),
                ordered: Arc::new(Notify::new()),
                reconciling: Mutex::default(),
                erasing: Mutex::default(),
            },
            end,
        })
    }

    /// Does it, and gives the place back.
    ///
    /// # Errors
    /// When it could not be done.
    pub async fn act(self, order: Order) -> Result<Report, Failed> {
        let outcome = self.operator.act(order).await;
        self.operator.writer.close();
        drop(self.end.await);
        outcome
    }
}

fn client(settings: &Settings) -> Result<Option<Client>, StandbyError> {
    let material = read_material(settings)?;
    let target = Target {
        base_url: settings.api.base_url.clone(),
        roots: material.roots.clone(),
    };
    let client = material.keys.map(|keys| Client::new(&target, &keys));
    Ok(client.transpose().map_err(GatewayError::from)?)
}
