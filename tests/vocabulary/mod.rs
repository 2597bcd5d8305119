//! The words the tests are written in: a place on the disk, a gateway started in it as a user would start it, a Belvo to
//! talk to, and what the file says. Everything is real: the program, its sockets, TLS, SQLite. It knows the command
//! line, the configuration, the readiness protocol and the tables, and nothing of the program's inside.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use belvo_gateway::standin::sender::Sender;
use belvo_gateway::standin::{Certificates, Options, StandIn};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tempfile::TempDir;

/// The program under test; another build of it may be given as `GATEWAY_PROGRAM`, by its whole path.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_belvo-gateway");
/// The hook's path.
pub(crate) const PATH: &str = "/belvo/webhooks";
/// The `Authorization` value that is configured where one is.
pub(crate) const AUTHORIZATION: &str = "Bearer 3c2b0e5f";
/// The keys that the stand-in for Belvo's API takes.
pub(crate) const KEYS: (&str, &str) = ("secret-id", "secret-password");
/// A link as Belvo would name it.
pub(crate) const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

/// Puts the directory `$0` where journald has its sockets, and runs the rest of the arguments.
const JOURNALD: &str = "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal; \
                        mount --bind \"$0\" /run/systemd/journal; exec \"$@\"";

/// How long anything may take before a test gives up on it. The machines are shared and slow at times.
const PATIENCE: Duration = Duration::from_secs(30);
/// Neither a file nor a process that is not our child's has an event that std could wait for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A place on the disk with a configuration and a state directory.
pub(crate) struct Place {
    directory: TempDir,
    certificates: Option<Certificates>,
    tables: Tables,
    environment: Vec<(String, String)>,
    level: &'static str,
    journald: Option<PathBuf>,
    network: Option<&'static str>,
    handed_over: Option<(OwnedFd, &'static str)>,
}

#[derive(Default)]
struct Tables {
    top: String,
    listen: String,
    tls: String,
    api: String,
    storage: String,
}

impl Place {
    /// The least: TLS off on loopback, every loopback address allowed, no keys.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("state")).expect("a state directory");
        let state = directory.path().join("state");
        let tables = Tables {
            top: format!("environment = \"sandbox\"\nstate-directory = {:?}\n", state),
            listen: "address = [\"127.0.0.1:0\"]\nallow = [\"127.0.0.0/8\"]\n".to_owned(),
            tls: "mode = \"off\"\n".to_owned(),
            api: String::new(),
            storage: String::new(),
        };
        Self {
            directory,
            certificates: None,
            tables,
            environment: Vec::new(),
            level: "debug",
            journald: None,
            network: None,
            handed_over: None,
        }
    }

    /// Started with this handed over under these names, as systemd does it with sockets.
    pub(crate) fn handing_over(mut self, what: impl Into<OwnedFd>, names: &'static str) -> Self {
        self.handed_over = Some((what.into(), names));
        self
    }

    /// With these lines under `[storage]`.
    pub(crate) fn storing(mut self, lines: &str) -> Self {
        self.tables.storage += lines;
        self.tables.storage += "\n";
        self
    }

    /// In this network namespace in place of ours.
    pub(crate) fn in_network(mut self, name: &'static str) -> Self {
        self.network = Some(name);
        self
    }

    /// Belvo's addresses may speak, because nothing else is said.
    pub(crate) fn allowing_by_default(mut self) -> Self {
        let said = "allow = [\"127.0.0.0/8\"]\n";
        self.tables.listen = self.tables.listen.replace(said, "");
        self
    }

    /// With TLS, by a certificate for `localhost`.
    pub(crate) fn with_tls(mut self) -> Self {
        let certificates =
            Certificates::create(&self.path("tls")).expect("a certificate authority");
        let identity = certificates.issue("localhost").expect("a certificate");
        self.tables.tls = format!(
            "mode = \"files\"\ncertificate = {:?}\nkey = {:?}\n",
            identity.certificate, identity.key
        );
        self.certificates = Some(certificates);
        self
    }

    /// With an `Authorization` value.
    pub(crate) fn with_authorization(mut self) -> Self {
        let file = self.secret("authorization", AUTHORIZATION);
        self.tables.listen += &format!("authorization-file = {file:?}\n");
        self
    }

    /// Only this source may speak.
    pub(crate) fn allowing(mut self, source: &str) -> Self {
        self.tables.listen = self
            .tables
            .listen
            .replace("\"127.0.0.0/8\"", &format!("{source:?}"));
        self
    }

    /// With more lines under `[listen]`.
    pub(crate) fn listening(mut self, lines: &str) -> Self {
        self.tables.listen += lines;
        self.tables.listen += "\n";
        self
    }

    /// Listening on this address in place of loopback.
    pub(crate) fn listening_on(mut self, address: &str) -> Self {
        self.tables.listen = self.tables.listen.replace("127.0.0.1:0", address);
        self
    }

    /// Fetching from this Belvo, as fast as it can.
    pub(crate) fn fetching_from(mut self, belvo: &StandIn) -> Self {
        let (id, password) = (self.secret("id", KEYS.0), self.secret("password", KEYS.1));
        self.tables.api = format!(
            "base-url = {:?}\nsecret-id-file = {id:?}\nsecret-password-file = {password:?}\n\
             requests-per-second = 1000\nburst = 10000\n",
            belvo.base_url()
        );
        self
    }

    /// At this rate and burst.
    pub(crate) fn at_most(mut self, per_second: f64, burst: u32) -> Self {
        let as_fast_as_it_can = "requests-per-second = 1000\nburst = 10000\n";
        let slowly = format!("requests-per-second = {per_second}\nburst = {burst}\n");
        self.tables.api = self.tables.api.replace(as_fast_as_it_can, &slowly);
        self
    }

    /// Comparing with Belvo by itself after an absence.
    pub(crate) fn reconciling_by_itself(mut self) -> Self {
        self.tables.api += "reconcile = \"auto\"\n";
        self
    }

    /// With TLS, by a certificate that is valid only until then.
    pub(crate) fn with_tls_until(self, until: SystemTime) -> Self {
        let place = self.with_tls();
        let issued = place.certificates().issue_until("localhost", until);
        issued.expect("a certificate");
        place
    }

    #[cfg(feature = "acme")]
    /// With TLS, by a certificate for this name from an ACME server that is vouched for by the place's own authority.
    pub(crate) fn with_acme(mut self, domain: &str, directory: &str) -> Self {
        if self.certificates.is_none() {
            self = self.with_tls();
        }
        let ca = self.certificates().ca_file();
        self.tables.tls = format!(
            "mode = \"acme\"\ndomain = {domain:?}\ncontact = \"admin@example.com\"\n\
             directory = {directory:?}\nca-file = {ca:?}\n"
        );
        self
    }

    /// The authority of a place with TLS; its certificate named `localhost` is the gateway's.
    pub(crate) fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a place with TLS")
    }

    /// Trusting the place's own authority in place of the system's.
    pub(crate) fn trusting_its_own_authority(mut self) -> Self {
        let certificates = self.certificates();
        self.tables.api += &format!("ca-file = {:?}\n", certificates.ca_file());
        self
    }

    /// With a variable in the program's environment.
    pub(crate) fn with_environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Under a journald whose socket is in this directory, in a mount namespace of its own.
    pub(crate) fn under_journald(mut self, sockets: &Path) -> Self {
        self.journald = Some(sockets.to_owned());
        self
    }

    /// Logging everything that can be logged.
    pub(crate) fn logging_everything(self) -> Self {
        Self {
            level: "trace",
            ..self
        }
    }

    /// On a disk that can be made slow or bad: see `faults.c`.
    pub(crate) fn on_a_bad_disk(self) -> Self {
        let (faults, log) = (self.path("faults"), self.path("faults.log"));
        fs::create_dir(&faults).expect("a directory");
        self.with_environment("LD_PRELOAD", faults_library().to_str().expect("UTF-8"))
            .with_environment("FAULTS_DIR", faults.to_str().expect("UTF-8"))
            .with_environment("FAULTS_LOG", log.to_str().expect("UTF-8"))
    }

    /// Turns a fault of `faults.c` on.
    pub(crate) fn break_disk(&self, fault: &str) {
        File::create(self.path("faults").join(fault)).expect("a fault");
    }

    /// Makes every file system say that it has so much free.
    pub(crate) fn say_free(&self, mib: u64) {
        self.say("free-mib", &mib.to_string());
    }

    /// Sets the wall clock so many days ahead of the right time, or back.
    pub(crate) fn set_clock_ahead(&self, days: i64) {
        self.say("clock-ahead", &(days * 24 * 3600).to_string());
    }

    fn say(&self, fault: &str, text: &str) {
        let new = self.path("fault.new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.path("faults").join(fault)).expect("a fault");
    }

    /// Turns it off again.
    pub(crate) fn mend_disk(&self, fault: &str) {
        fs::remove_file(self.path("faults").join(fault)).expect("a fault that was on");
    }

    /// A file or directory in this place.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        use std::io::Write;
        let path = self.path(name);
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .expect("a file");
        writeln!(file, "{text}").expect("a written file");
        path
    }

    /// Writes the configuration and says where.
    pub(crate) fn configured(&self) -> PathBuf {
        let Tables {
            top,
            listen,
            tls,
            api,
            storage,
        } = &self.tables;
        let text =
            format!("{top}\n[listen]\n{listen}\n[tls]\n{tls}\n[storage]\n{storage}\n[api]\n{api}");
        let path = self.path("config.toml");
        fs::write(&path, text).expect("a configuration");
        path
    }

    /// Changes the text of the configuration of a gateway that runs; the next start has the old text again.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(String) -> String) {
        let path = self.path("config.toml");
        let text = fs::read_to_string(&path).expect("a configuration");
        let changed = change(text.clone());
        assert_ne!(text, changed, "nothing was changed");
        fs::write(&path, changed).expect("a configuration");
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway<'_> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        Gateway::start(self, log.expect("a log").into())
    }

    /// Starts it with a log that nobody reads and that takes nothing more; the pipe is stuck while it is held.
    pub(crate) fn start_with_a_stuck_log(&self) -> (Gateway<'_>, std::io::PipeReader) {
        use std::io::Write;
        const PIPE_BYTES: usize = 64 * 1024;
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer
            .write_all(&[b'\n'; PIPE_BYTES])
            .expect("a pipe with room");
        (Gateway::start(self, writer.into()), reader)
    }

    /// Runs `serve` where it cannot start, to its end.
    pub(crate) fn fails_to_start(&self) -> Output {
        let mut command = self.command("serve");
        command
            .arg("--config")
            .arg(self.configured())
            .output()
            .expect("the program runs")
    }

    /// Runs a command that reads the state directory.
    pub(crate) fn reads(&self, command: &str, arguments: &[&str]) -> Output {
        let mut program = self.command(command);
        program
            .args(arguments)
            .arg("--state")
            .arg(self.state())
            .output()
            .expect("the program runs")
    }

    /// Runs a command that may need the configuration.
    pub(crate) fn orders(&self, command: &str, arguments: &[&str]) -> Output {
        let mut program = self.command(command);
        program
            .args(arguments)
            .arg("--config")
            .arg(self.configured())
            .output()
            .expect("the program runs")
    }

    fn command(&self, command: &str) -> Command {
        let other = std::env::var_os("GATEWAY_PROGRAM");
        let other = other.unwrap_or_else(|| PROGRAM.into());
        let mut program = match (self.network, &self.journald) {
            (None, None) => Command::new(other),
            (None, Some(sockets)) => {
                let mut program = Command::new("unshare");
                program.args(["--map-root-user", "--mount", "sh", "-euc", JOURNALD]);
                program.arg(sockets).arg(other);
                program
            }
            (Some(name), _) => {
                let mut program = Command::new("ip");
                program.args(["netns", "exec", name, PROGRAM]);
                program
            }
        };
        program.args(command.split(' ')).stdin(Stdio::null());
        if let ("serve", Some((what, names))) = (command, &self.handed_over) {
            let mut shell = handing_over(what, names);
            shell.arg(program.get_program()).args(program.get_args());
            program = shell;
        }
        for name in [
            "CREDENTIALS_DIRECTORY",
            "STATE_DIRECTORY",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "JOURNAL_STREAM",
        ] {
            program.env_remove(name);
        }
        program.envs(unit_environment());
        program.envs(
            self.environment
                .iter()
                .map(|(name, value)| (name, value.as_str())),
        );
        program
    }

    /// The file, opened as an admin would.
    pub(crate) fn file(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Connection::open_with_flags(self.state().join("gateway.db"), flags)
            .expect("a database file");
        file.busy_timeout(PATIENCE).expect("a timeout");
        file
    }

    /// The one value of a query.
    pub(crate) fn value<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.file()
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The first column of a query.
    pub(crate) fn column<T: rusqlite::types::FromSql>(&self, sql: &str) -> Vec<T> {
        let file = self.file();
        let mut statement = file
            .prepare(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("values")
    }

    /// Waits until a query's one value is this.
    pub(crate) fn until<T>(&self, sql: &str, wanted: T)
    where
        T: rusqlite::types::FromSql + PartialEq + std::fmt::Debug,
    {
        self.until_within(sql, wanted, PATIENCE);
    }

    /// Waits that long until a query's one value is this.
    pub(crate) fn until_within<T>(&self, sql: &str, wanted: T, patience: Duration)
    where
        T: rusqlite::types::FromSql + PartialEq + std::fmt::Debug,
    {
        let begun = Instant::now();
        loop {
            let found: Option<T> = self
                .file()
                .query_row(sql, [], |row| row.get(0))
                .optional()
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            if found.as_ref() == Some(&wanted) {
                return;
            }
            let log = self.log();
            assert!(
                begun.elapsed() < patience,
                "{sql} is {found:?} and not {wanted:?}; {log}"
            );
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until everything that was asked for is fetched.
    pub(crate) fn until_fetched(&self) {
        self.until(
            "SELECT (SELECT count(*) FROM work WHERE wanted > fetched)
                  + (SELECT count(*) FROM journal WHERE seq > (SELECT value FROM meta WHERE key = 'planned_to'))",
            0,
        );
    }

    /// What was logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until a line with all of these words is in the log.
    pub(crate) fn until_logged(&self, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
            {
                return line.to_owned();
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no line with {words:?} in\n{log}"
            );
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// A running gateway, killed when it is dropped.
pub(crate) struct Gateway<'a> {
    place: &'a Place,
    child: Child,
    notify: UnixDatagram,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl<'a> Gateway<'a> {
    fn start(place: &'a Place, log: Stdio) -> Self {
        let path = place.path("notify");
        // One that was killed has left its socket behind.
        drop(fs::remove_file(&path));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        let child = place
            .command("serve")
            .arg("--config")
            .arg(place.configured())
            .args(["--log", place.level])
            .env("NOTIFY_SOCKET", &path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut gateway = Self {
            place,
            child,
            notify: socket,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        gateway.address = gateway.ready();
        gateway
    }

    fn ready(&mut self) -> SocketAddr {
        let begun = Instant::now();
        let mut datagram = [0; 4096];
        while begun.elapsed() < PATIENCE {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the gateway ended: {}", self.place.log());
            let Ok(length) = self.notify.recv(&mut datagram) else {
                continue;
            };
            let told = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let status = told
                .lines()
                .find_map(|line| line.strip_prefix("STATUS=listening on "));
            if let (true, Some(addresses)) = (told.contains("READY=1"), status) {
                let first = addresses.split([',', ';']).next().expect("an address");
                return first.parse().expect("an address");
            }
        }
        panic!("the gateway was not ready: {}", self.place.log());
    }

    /// Somebody who sends it webhooks, with everything that is configured.
    pub(crate) fn sender(&self) -> Sender {
        self.sender_to(self.address)
    }

    /// The same, to another of its addresses.
    pub(crate) fn sender_to(&self, to: SocketAddr) -> Sender {
        let sender = match &self.place.certificates {
            Some(certificates) => Sender::tls(to, PATH, &certificates.ca_file()).expect("TLS"),
            None => Sender::plain(to, PATH),
        };
        match self.place.tables.listen.contains("authorization-file") {
            true => sender.authorization(AUTHORIZATION),
            false => sender,
        }
    }

    /// Sends so many webhooks over 64 kept connections; each is answered 200 before Belvo would give up.
    pub(crate) fn takes_in(&self, count: usize, webhook: impl Fn(usize) -> String + Sync) {
        const CONNECTIONS: usize = 64;
        const IN_TIME: Duration = Duration::from_secs(5);
        let webhook = &webhook;
        thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                scope.spawn(move || {
                    let sender = self.sender();
                    let mut belvo = sender.connect().expect("a connection");
                    for number in (connection..count).step_by(CONNECTIONS) {
                        let (webhook, sent) = (webhook(number), Instant::now());
                        let answer = belvo.send(webhook.as_bytes()).expect("an answer");
                        assert_eq!(answer.status, 200);
                        assert!(sent.elapsed() <= IN_TIME, "{:?}", sent.elapsed());
                    }
                });
            }
        });
    }

    /// Sends one webhook and says how it was answered.
    pub(crate) fn answers(&self, body: impl AsRef<[u8]>) -> u16 {
        self.sender()
            .send(body.as_ref())
            .unwrap_or_else(|error| panic!("{error}; {}", self.place.log()))
            .status
    }

    /// Whether it tells the service manager this, from now on and within this time.
    pub(crate) fn tells(&self, what: &str, within: Duration) -> bool {
        let mut datagram = [0; 4096];
        self.notify.set_nonblocking(true).expect("a socket");
        while self.notify.recv(&mut datagram).is_ok() {}
        self.notify.set_nonblocking(false).expect("a socket");
        let begun = Instant::now();
        while begun.elapsed() < within {
            if let Ok(length) = self.notify.recv(&mut datagram)
                && datagram[..length].trim_ascii() == what.as_bytes()
            {
                return true;
            }
        }
        false
    }

    /// SIGHUP, and what the service manager is told from then on until the gateway is ready again.
    pub(crate) fn reload(&self) -> Vec<String> {
        let mut datagram = [0; 4096];
        self.notify.set_nonblocking(true).expect("a socket");
        while self.notify.recv(&mut datagram).is_ok() {}
        self.notify.set_nonblocking(false).expect("a socket");
        self.signal("HUP");
        let (begun, mut told) = (Instant::now(), Vec::new());
        while begun.elapsed() < PATIENCE {
            let Ok(length) = self.notify.recv(&mut datagram) else {
                continue;
            };
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let is_ready = text.contains("READY=1");
            told.push(text);
            if is_ready {
                return told;
            }
        }
        panic!(
            "the gateway does not reload: {told:?}; {}",
            self.place.log()
        );
    }

    /// How long its threads have computed so far.
    pub(crate) fn computed(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("a process");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
        TICK * ticks
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has had resident so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process");
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .expect("a peak");
        let kib = peak.trim().trim_end_matches(" kB").parse();
        kib.expect("a number")
    }

    /// The CPU time it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("a process");
        // The name stands in parentheses; the 14th and 15th field are user and system time, in hundredths of a second.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|text| text.parse().unwrap_or(0)).sum();
        Duration::from_millis(10 * ticks)
    }

    /// Kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("a process that was killed");
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .expect("sh runs");
        assert!(sent.success(), "{name} could not be sent");
    }

    /// SIGTERM, and how it ended after how long.
    pub(crate) fn stop(mut self) -> (ExitStatus, Duration) {
        self.signal("TERM");
        let begun = Instant::now();
        (self.ended(), begun.elapsed())
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the gateway does not end: {}",
                self.place.log()
            );
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// A stand-in for Belvo's API over TLS, with a certificate that is signed by the authority of `place`.
pub(crate) fn belvo_over_tls(place: &Place) -> StandIn {
    let certificates = place.certificates();
    StandIn::start(Options {
        keys: (KEYS.0.to_owned(), KEYS.1.to_owned()),
        tls: Some(certificates.issue("belvo").expect("a certificate")),
        ..Options::default()
    })
    .expect("a stand-in")
}

/// A stand-in for Belvo's API without TLS.
pub(crate) fn belvo() -> StandIn {
    let keys = (KEYS.0.to_owned(), KEYS.1.to_owned());
    StandIn::start(Options {
        keys,
        ..Options::default()
    })
    .expect("a stand-in")
}

/// `faults.c`, compiled once.
pub(crate) fn faults_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("faults-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vocabulary/faults.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("a C compiler, which SQLite needs as well");
        assert!(compiled.success(), "{source} does not compile");
        library
    })
}

/// A shell that becomes the program named behind it, with this open as descriptor 3 and on, once for each name.
fn handing_over(what: &OwnedFd, names: &str) -> Command {
    let count = names.split(':').count();
    let descriptors: String = (3..3 + count)
        .map(|number| format!("{number}<&0 "))
        .collect();
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; exec \"$@\" {descriptors} 0</dev/null"
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script, "sh"])
        .stdin(what.try_clone().expect("a descriptor"));
    shell
}

/// What the unit sets for the program.
fn unit_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let unit = include_str!("../../systemd/belvo-gateway.service");
    let set = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="));
    set.filter_map(|set| set.split_once('='))
}

/// Says that a test shows nothing here, and why: past the test runner, which keeps what passing tests print.
pub(crate) fn skipped(why: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("standard error");
}

/// The text of a stream.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads to the end of a stream, whatever ends it.
pub(crate) fn rest(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    drop(stream.read_to_end(&mut bytes));
    bytes
}
