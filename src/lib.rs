//! belvo-gateway takes Belvo's webhooks in safely, follows them, and keeps what they announce in one SQLite file.
//!
//! ```text
//! Belvo --webhook--> listener -> source check -> authorization -> journal --200-->
//!                                                                   |
//!                      SQLite file <- store <- fetch <---- drain <--+
//! ```
//!
//! Three threads, each with one duty: the intake answers, the drain fetches, the writer owns the only write connection.
//! The journal is the one thing both halves know. A 200 is proof: it cannot be built without the commit that returned.
//!
//! In reading order: [`webhook`] is what a delivery is and [`catalog`] what it leads to; [`intake`] takes it in,
//! [`journal`] keeps it, [`drain`] plans and fetches through [`fetch`], [`store`] keeps the objects; [`database`] is the
//! file under both; [`operate`] is what an operator may do to it; [`notices`] and [`bookkeeper`] carry what the intake has to say; [`limits`] bounds everything;
//! `acme` gets certificates, in a program that was built with it;
//! [`config`] and [`system`] are the machine's side; [`gateway`] wires all of it and [`commands`] are what a user types.
//! [`standin`] plays Belvo for the demo and the tests; nothing else knows it.

#[cfg(feature = "acme")]
pub mod acme;
pub mod bookkeeper;
pub mod catalog;
pub mod cli;
pub mod commands;
pub mod config;
pub mod database;
pub mod drain;
pub mod fetch;
pub mod gateway;
pub mod intake;
pub mod journal;
pub mod limits;
pub mod notices;
pub mod operate;
pub mod standin;
pub mod store;
pub mod system;
pub mod webhook;
