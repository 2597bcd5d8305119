//! A stand-in for Belvo on loopback, for tests and for the `demo` command: its API with envelope, paging, keys and
//! errors, faults on request, and the side that sends webhooks. It knows what Belvo documents and nothing of the
//! gateway; nothing that runs in production names it.

mod answers;
mod api;
mod certificates;
mod declared;
mod edge;
mod known;
mod lists;
pub mod objects;
pub mod payloads;
mod record;
mod script;
pub mod sender;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;

pub use certificates::{Certificates, Identity, write_secret};
pub use lists::Lists;
pub use record::{Observer, Outcome, Request};
pub use script::{ERRORS, Fault, Hold, When};

use api::Api;
use objects::{ConsentRecord, LinkRecord};
use record::Record;
use server::Server;

/// How a stand-in is to be.
#[derive(Default)]
pub struct Options {
    /// The server's files; without them it speaks plain HTTP.
    pub tls: Option<Identity>,
    /// Secret id and secret password that requests must carry.
    pub keys: (String, String),
    /// Whether more than 80 requests in 30 seconds are answered with the firewall's 403.
    pub edge_limit: bool,
    /// Told of each request when its outcome changes.
    pub observer: Option<Observer>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tls, edge_limit, ..
        } = self;
        f.debug_struct("Options")
            .field("tls", tls)
            .field("edge_limit", edge_limit)
            .finish_non_exhaustive()
    }
}

/// A stand-in Belvo. It runs on a thread of its own and ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    base_url: String,
    tls: Option<Arc<ServerConfig>>,
    api: Arc<Api>,
    server: Mutex<Option<Server>>,
}

impl StandIn {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(options: Options) -> io::Result<Self> {
        let tls = options.tls.as_ref().map(server::tls).transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base_url = format!("{scheme}://localhost:{}", address.port());
        let record = Record::new(options.observer);
        let api = Arc::new(Api::new(
            base_url.clone(),
            &options.keys,
            options.edge_limit,
            record,
        ));
        let server = Server::start(listener, tls.clone(), Arc::clone(&api))?;
        Ok(Self {
            address,
            base_url,
            tls,
            api,
            server: Mutex::new(Some(server)),
        })
    }

    /// Scheme, name and port, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection and refuses new ones, as when the API is down. Objects, script and record stay.
    pub fn stop(&self) {
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(server);
    }

    /// Stops, if it is running, and comes back on the same port.
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        let listener = TcpListener::bind(self.address)?;
        let server = Server::start(listener, self.tls.clone(), Arc::clone(&self.api))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    /// Makes `objects`, each a JSON text that is answered byte for byte, all that `link` has in the list at `path`.
    pub fn put(&self, path: &str, link: &str, objects: Vec<String>) {
        self.api.state().lists.put(path, link, objects);
    }

    /// Makes this the record of its link, at `/api/links/`.
    pub fn put_link(&self, record: &LinkRecord) {
        self.api.state().lists.put_link(record);
    }

    /// Makes this the record of the consent of its link, at `/api/consents/`.
    pub fn put_consent(&self, record: &ConsentRecord) {
        self.api.state().lists.put_consent(record);
    }

    /// Erases everything of a link: its detail is a 404 from now on, and its lists are empty.
    pub fn delete_link(&self, link: &str) {
        self.api.state().lists.delete_link(link);
    }

    /// The objects of `link` in the list at `path`.
    pub fn objects(&self, path: &str, link: &str) -> Vec<String> {
        self.api.state().lists.objects(path, link)
    }

    /// Changes what it holds, between two requests.
    pub fn change(&self, change: impl FnOnce(&mut Lists)) {
        change(&mut self.api.state().lists);
    }

    /// Lets requests go wrong.
    pub fn fail(&self, when: When, fault: Fault) {
        self.api.state().script.fail(when, fault);
    }

    /// Keeps requests waiting until the handle lets them go.
    pub fn hold(&self, when: When) -> Hold {
        self.api.state().script.hold(when)
    }

    /// Changes the objects right after the answer to such a request was made, before the next request is looked at.
    pub fn change_after(&self, when: When, change: impl FnMut(&mut Lists) + Send + 'static) {
        self.api.state().script.change(when, Box::new(change));
    }

    /// Forgets every fault, hold and change that is still to come.
    pub fn clear_script(&self) {
        self.api.state().script.clear();
    }

    /// The requests so far, oldest first; the log is bounded.
    pub fn requests(&self) -> Vec<Request> {
        self.api.record.requests()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.api.record.forget();
    }

    /// Waits until `enough` is true of the requests so far, and says whether it is.
    pub fn wait_for(&self, timeout: Duration, enough: impl Fn(&[Request]) -> bool) -> bool {
        self.api.record.wait_for(timeout, enough)
    }
}
