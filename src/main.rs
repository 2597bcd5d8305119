//! Arguments in, exit code out; nothing else.

use std::process::ExitCode;

use belvo_gateway::{cli, commands};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(command) => commands::run(&command),
        Err(code) => code,
    }
}
