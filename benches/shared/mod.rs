//! What the benches have in common: a place to work in, the program as it is started there, the two ways in which webhooks
//! come, a Belvo to fetch from, what a process has used, and how figures are set. Each bench uses a part of it.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod belvo;
pub(crate) mod load;
pub(crate) mod place;
pub(crate) mod program;
pub(crate) mod report;
pub(crate) mod steady;
pub(crate) mod usage;
