//! The program from outside, as the people who use it meet it. Each file is one side of it; the names of the tests are
//! what it promises.

mod acme;
mod answers;
mod bad_input;
mod book;
mod certificates;
mod clock;
mod commands;
mod contract;
mod crashes;
mod damage;
mod doctor;
mod fetching;
mod following;
mod fuzzed;
mod hostile;
mod journald;
mod memory;
mod operating;
mod order;
mod queries;
mod recovery;
mod reload;
mod retention;
mod room;
mod scanners;
mod selftest;
mod snapshot;
mod sockets;
mod sources;
mod starting;
mod structure;
mod tables;
mod vocabulary;
