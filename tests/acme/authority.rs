//! An authority that speaks ACME, as far as a client of tls-alpn-01 needs it, and strict: every signature, nonce and URL is
//! checked, and so is the challenge, over a real connection to the port under test. Knows nothing of the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belvo_gateway::standin::{Certificates, Identity};
use belvo_gateway::system::tls::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, alg_id};
use rustls::{CipherSuite, ServerConfig, ServerConnection, StreamOwned, SupportedCipherSuite};
use serde_json::{Value, json};

use super::client::acme_handshake;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is to happen with the next orders.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Script {
    /// How long ago certificates begin, and how many days later they end.
    pub(crate) age_days: u32,
    pub(crate) lifetime_days: u32,
    /// Whether the challenge is looked for at all, or found wrong without a look.
    pub(crate) refuses: bool,
    /// Whether the look waits until it is told to go on.
    pub(crate) holds: bool,
}

#[derive(Default)]
struct State {
    script: Script,
    /// Where the names under test lead to.
    gateway: Option<SocketAddr>,
    nonces: BTreeSet<String>,
    issued: u64,
    /// Account URL -> (x, y) of its key.
    accounts: BTreeMap<String, (String, String)>,
    domain: String,
    order: &'static str,
    authorization: &'static str,
    problem: Option<String>,
    chain: String,
    /// What a client did wrong.
    wrong: Vec<String>,
    orders: u32,
}

/// A running authority; its threads end with the process.
#[derive(Clone)]
pub(crate) struct Authority {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    certificates: Arc<Certificates>,
}

impl Authority {
    /// One whose own certificate and whose certificates for others are signed by `certificates`.
    pub(crate) fn start(certificates: Certificates) -> Self {
        let identity = certificates.issue("authority").expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = Self {
            address: listener.local_addr().expect("an address"),
            state: Arc::default(),
            certificates: Arc::new(certificates),
        };
        authority.state().script = Script {
            lifetime_days: 90,
            ..Script::default()
        };
        let (tls, serving) = (tls(&identity), authority.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (tls, serving) = (Arc::clone(&tls), serving.clone());
                thread::spawn(move || serving.serve(stream.expect("a connection"), tls));
            }
        });
        authority
    }

    pub(crate) fn directory(&self) -> String {
        self.url("directory")
    }

    /// The file that vouches for it.
    pub(crate) fn ca_file(&self) -> std::path::PathBuf {
        self.certificates.ca_file()
    }

    /// Where its challenges go.
    pub(crate) fn looks_at(&self, gateway: SocketAddr) {
        self.state().gateway = Some(gateway);
    }

    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state().script);
    }

    /// How many orders there were.
    pub(crate) fn orders(&self) -> u32 {
        self.state().orders
    }

    /// Whether an order waits for its challenge to be looked at.
    pub(crate) fn is_asked_to_look(&self) -> bool {
        self.state().authorization == "processing"
    }

    /// What clients did wrong so far.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.state().wrong.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.address.port())
    }

    fn serve(&self, stream: TcpStream, tls: Arc<ServerConfig>) {
        let connection = ServerConnection::new(tls).expect("a connection");
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let Some((method, path, body)) = request(&mut stream) else {
            return;
        };
        let (status, headers, body) = self.answer(&method, &path, &body);
        let nonce = self.nonce();
        let head = format!(
            "HTTP/1.1 {status} X\r\nReplay-Nonce: {nonce}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        );
        let sent = if method == "HEAD" { "" } else { &body };
        // Who does not wait for an answer gets none.
        drop(stream.get_mut().write_all((head + sent).as_bytes()));
        stream.get_mut().conn.send_close_notify();
        drop(stream.get_mut().flush());
    }

    fn nonce(&self) -> String {
        let mut state = self.state();
        state.issued += 1;
        let nonce = format!("nonce{}", state.issued);
        state.nonces.insert(nonce.clone());
        nonce
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, String, String) {
        match (method, path) {
            ("GET", "/directory") => {
                let url = |path| self.url(path);
                let directory = json!({ "newNonce": url("nonce"), "newAccount": url("account"), "newOrder": url("orders") });
                (200, String::new(), directory.to_string())
            }
            ("HEAD", "/nonce") => (200, String::new(), String::new()),
            ("POST", _) => match self.verify(path, body) {
                Ok((account, payload)) => self.post(path, &account, &payload),
                Err(why) => {
                    self.state().wrong.push(format!("{path}: {why}"));
                    let problem = json!({ "type": "urn:ietf:params:acme:error:malformed", "detail": why, "status": 400 });
                    (400, String::new(), problem.to_string())
                }
            },
            _ => (404, String::new(), "{}".to_owned()),
        }
    }

    /// The account and payload of a signed request (RFC 8555 section 6.2 to 6.5).
    fn verify(&self, path: &str, body: &[u8]) -> Result<(String, Value), String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let field = |name: &str| body[name].as_str().ok_or_else(|| format!("no {name}"));
        let (protected, payload) = (field("protected")?, field("payload")?);
        let head: Value =
            serde_json::from_slice(&decoded(protected)?).map_err(|error| error.to_string())?;
        if head["alg"] != "ES256" || head["url"] != self.url(&path[1..]) {
            return Err(format!("wrong alg or url: {head}"));
        }
        let nonce = head["nonce"].as_str().unwrap_or_default();
        if !self.state().nonces.remove(nonce) {
            return Err(format!("nonce {nonce:?} is not one of ours, or was used"));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (account, key) = match (&head["jwk"], &head["kid"]) {
            (Value::Null, Value::String(kid)) => {
                let key = self.state().accounts.get(kid).cloned();
                (kid.clone(), key.ok_or_else(|| format!("no account {kid}"))?)
            }
            (jwk, Value::Null) if path == "/account" => {
                (String::new(), (text(&jwk["x"]), text(&jwk["y"])))
            }
            _ => return Err("needs a kid, or a jwk for a new account".to_owned()),
        };
        check_signature(
            &key,
            format!("{protected}.{payload}").as_bytes(),
            &decoded(field("signature")?)?,
        )?;
        if account.is_empty() {
            let url = self.url("accounts/1");
            self.state().accounts.insert(url.clone(), key);
            return Ok((url, parsed(payload)?));
        }
        Ok((account, parsed(payload)?))
    }

    fn post(&self, path: &str, account: &str, payload: &Value) -> (u16, String, String) {
        match path {
            "/account" => {
                if payload["termsOfServiceAgreed"] != true
                    || payload["contact"][0] != "mailto:admin@example.com"
                {
                    self.state().wrong.push(format!("account: {payload}"));
                }
                (
                    201,
                    format!("Location: {account}\r\n"),
                    json!({ "status": "valid" }).to_string(),
                )
            }
            "/orders" => {
                let mut state = self.state();
                state.orders += 1;
                state.domain = payload["identifiers"][0]["value"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                (state.order, state.authorization, state.problem) = ("pending", "pending", None);
                drop(state);
                (
                    201,
                    format!("Location: {}\r\n", self.url("order")),
                    self.order(),
                )
            }
            "/order" => (200, String::new(), self.order()),
            "/authorization" => (200, String::new(), self.authorization()),
            "/challenge" => {
                self.state().authorization = "processing";
                let (looking, account) = (self.clone(), account.to_owned());
                thread::spawn(move || looking.look(&account));
                (200, String::new(), self.challenge().to_string())
            }
            "/finalize" => {
                self.issue(payload["csr"].as_str().unwrap_or_default());
                (200, String::new(), self.order())
            }
            "/chain" => (200, String::new(), self.state().chain.clone()),
            _ => (404, String::new(), "{}".to_owned()),
        }
    }

    fn order(&self) -> String {
        let state = self.state();
        let mut order = json!({
            "status": state.order,
            "identifiers": [{ "type": "dns", "value": state.domain }],
            "authorizations": [self.url("authorization")],
            "finalize": self.url("finalize"),
        });
        if state.order == "valid" {
            order["certificate"] = self.url("chain").into();
        }
        order.to_string()
    }

    fn authorization(&self) -> String {
        let (status, domain) = {
            let state = self.state();
            (state.authorization, state.domain.clone())
        };
        let status = if status == "processing" {
            "pending"
        } else {
            status
        };
        json!({ "status": status, "identifier": { "type": "dns", "value": domain }, "challenges": [self.challenge()] }).to_string()
    }

    fn challenge(&self) -> Value {
        let state = self.state();
        let mut challenge = json!({
            "type": "tls-alpn-01", "url": self.url("challenge"), "token": "token-of-the-challenge", "status": state.authorization,
        });
        if let Some(why) = &state.problem {
            challenge["error"] = json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": why, "status": 403 });
        }
        challenge
    }

    /// Looks for the challenge at the port under test (RFC 8737 section 3).
    fn look(&self, account: &str) {
        while self.state().script.holds {
            thread::sleep(Duration::from_millis(5));
        }
        let (domain, gateway, refuses) = {
            let state = self.state();
            (state.domain.clone(), state.gateway, state.script.refuses)
        };
        let wanted = {
            let (x, y) = self.state().accounts[account].clone();
            let thumbprint =
                sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes());
            sha256(
                format!(
                    "token-of-the-challenge.{}",
                    URL_SAFE_NO_PAD.encode(thumbprint)
                )
                .as_bytes(),
            )
        };
        let found = match gateway {
            _ if refuses => Err("no such name".to_owned()),
            None => Err("the name leads nowhere".to_owned()),
            Some(gateway) => acme_handshake(gateway, &domain).map(|(certificate, _)| certificate),
        };
        let mut extension = vec![
            0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 0x01, 1, 0xff, 0x04, 34, 0x04, 32,
        ];
        extension.extend(wanted);
        let judged = found.and_then(|certificate| {
            let holds = |bytes: &[u8]| {
                certificate
                    .windows(bytes.len())
                    .any(|window| window == bytes)
            };
            match holds(&extension) && holds(domain.as_bytes()) {
                true => Ok(()),
                false => Err("the certificate does not show the challenge".to_owned()),
            }
        });
        let mut state = self.state();
        match judged {
            Ok(()) => (state.order, state.authorization) = ("ready", "valid"),
            Err(why) => {
                state.problem = Some(why);
                (state.order, state.authorization) = ("invalid", "invalid");
            }
        }
    }

    fn issue(&self, csr: &str) {
        let csr = decoded(csr).expect("a request");
        // The public key of P-256, uncompressed: a bit string of 66 bytes that begins with 0 and 4.
        let at = csr
            .windows(4)
            .position(|window| window == [0x03, 0x42, 0x00, 0x04]);
        let at = at.expect("a public key");
        let mut state = self.state();
        let from = SystemTime::now() - DAY * state.script.age_days - Duration::from_secs(60);
        let until = from + DAY * state.script.lifetime_days;
        let chain =
            self.certificates
                .sign_for(&state.domain, csr[at + 3..at + 68].to_vec(), (from, until));
        state.chain = chain.expect("a certificate");
        state.order = "valid";
    }
}

fn tls(identity: &Identity) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&identity.certificate).expect("a chain");
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain.map(|one| one.expect("a certificate")).collect(), key);
    Arc::new(config.expect("a pair"))
}

/// Method, path and body.
fn request(stream: &mut impl BufRead) -> Option<(String, String, Vec<u8>)> {
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((method, path, body))
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| error.to_string())
}

/// A payload; an empty one asks for something and changes nothing.
fn parsed(payload: &str) -> Result<Value, String> {
    match decoded(payload)? {
        bytes if bytes.is_empty() => Ok(Value::Null),
        bytes => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let suite = provider()
        .cipher_suites
        .iter()
        .find_map(|suite| match suite {
            SupportedCipherSuite::Tls13(suite)
                if suite.common.suite == CipherSuite::TLS13_AES_128_GCM_SHA256 =>
            {
                Some(*suite)
            }
            _ => None,
        });
    let hash = suite.expect("a suite with SHA-256").common.hash_provider;
    hash.hash(bytes).as_ref().to_vec()
}

/// A signature of JWS is two numbers of 32 bytes; X.509 and rustls have them as DER.
fn check_signature(
    (x, y): &(String, String),
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let mut point = vec![4];
    point.extend(decoded(x)?);
    point.extend(decoded(y)?);
    if signature.len() != 64 {
        return Err(format!("a signature of {} bytes", signature.len()));
    }
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut content = number[zeros.min(31)..].to_vec();
        if content[0] >= 0x80 {
            content.insert(0, 0);
        }
        [vec![0x02, content.len() as u8], content].concat()
    };
    let numbers = [integer(&signature[..32]), integer(&signature[32..])].concat();
    let der = [vec![0x30, numbers.len() as u8], numbers].concat();
    let algorithms = provider().signature_verification_algorithms;
    let algorithm = algorithms.all.iter().find(|one| {
        one.public_key_alg_id() == alg_id::ECDSA_P256
            && one.signature_alg_id() == alg_id::ECDSA_SHA256
    });
    let algorithm = algorithm.expect("ECDSA on P-256 with SHA-256");
    algorithm
        .verify_signature(&point, message, &der)
        .map_err(|_| "the signature is wrong".to_owned())
}
