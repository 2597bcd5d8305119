//! Belvo as a stand-in on loopback, links with objects at it, and a look into the gateway's file whether all that was
//! announced is fetched.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use belvo_gateway::standin::objects::Household;
use belvo_gateway::standin::payloads::Resource;
use belvo_gateway::standin::{Options, StandIn};
use rusqlite::{Connection, OpenFlags};

/// The list that all webhooks here are about.
const LIST: &str = "/api/transactions/";
/// Nothing takes longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks into the file.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A stand-in whose keys are those that a site has.
pub(crate) fn start() -> anyhow::Result<StandIn> {
    Ok(StandIn::start(Options {
        keys: ("id".to_owned(), "password".to_owned()),
        ..Options::default()
    })?)
}

/// Puts a link with so many transactions there, and says its id.
pub(crate) fn put_link(belvo: &StandIn, seed: u64, objects: usize) -> String {
    let link = Household::new(seed, 1).link().to_owned();
    put(belvo, &link, seed, objects);
    link
}

/// Gives a link so many transactions there.
pub(crate) fn put(belvo: &StandIn, link: &str, seed: u64, objects: usize) {
    let objects = Household::new(seed, 2).objects(Resource::Transactions, objects);
    belvo.put(LIST, link, objects);
}

/// Takes away what a link has there.
pub(crate) fn empty(belvo: &StandIn, link: &str) {
    belvo.put(LIST, link, Vec::new());
}

/// The webhook that announces all transactions of a link.
pub(crate) fn webhook(link: &str) -> String {
    let id = fastrand::u128(..);
    format!(
        r#"{{"webhook_id":"{id:032x}","webhook_type":"TRANSACTIONS","process_type":"historical_update","webhook_code":"historical_update","link_id":"{link}","request_id":"4363b08b-51eb-4350-9c74-5df5ac92a7f6","external_id":"your_external_id","data":{{"total_transactions":19,"total_inflow_transactions":10,"total_outflow_transactions":9,"first_transaction_date":"2023-01-03","last_transaction_date":"2024-01-03"}}}}"#
    )
}

/// The gateway's file, read as an admin would.
pub(crate) struct File(Connection);

impl File {
    pub(crate) fn open(state: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(state.join("gateway.db"), flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(Self(connection))
    }

    /// Waits until everything that was received is planned and, if it can be, fetched.
    pub(crate) fn wait_for_all(&self, is_fetched: bool) -> anyhow::Result<()> {
        let mut look = self.0.prepare(
            "SELECT (SELECT value FROM meta WHERE key = 'planned_to') >= (SELECT max(seq) FROM journal)
                AND NOT (?1 AND EXISTS (SELECT 1 FROM work WHERE wanted > fetched))",
        )?;
        let begun = Instant::now();
        while !look.query_row([is_fetched], |row| row.get::<_, bool>(0))? {
            ensure!(
                begun.elapsed() < PATIENCE,
                "what was announced is not fetched"
            );
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// How many objects of a link are kept.
    pub(crate) fn objects(&self, link: &str) -> anyhow::Result<i64> {
        let sql = "SELECT count(*) FROM objects WHERE link_id = ?1 AND deleted_at IS NULL";
        Ok(self.0.query_row(sql, [link], |row| row.get(0))?)
    }
}
