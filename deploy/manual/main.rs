//! Man pages and completions, made from the table of the command line, and a man page from the example configuration.
//!
//! Usage: `belvo-gateway-manual VERSION DIRECTORY EXAMPLE`; fills DIRECTORY/man and DIRECTORY/completions.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../src/cli.rs"]
mod cli;

/// What the pages are part of, as their foot says.
const MANUAL: &str = "Belvo webhook gateway";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [version, directory, example] = arguments.as_slice() else {
        return Err("usage: belvo-gateway-manual VERSION DIRECTORY EXAMPLE".into());
    };
    let directory = PathBuf::from(directory);
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;

    // The version in the table is that of this package.
    let mut table = cli::table()
        .version(version.clone())
        .disable_help_subcommand(true);
    table.build();
    pages(&table, version, &man)?;
    fs::write(
        man.join("belvo-gateway.toml.5"),
        configuration(version, &fs::read_to_string(example)?)?,
    )?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut table, "belvo-gateway", &completions)?;
    }
    Ok(())
}

/// One page for a command and one for each below it.
fn pages(command: &clap::Command, version: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    for below in command.get_subcommands() {
        pages(below, version, directory)?;
    }
    let page = clap_mangen::Man::new(command.clone())
        .source(format!("belvo-gateway {version}"))
        .manual(MANUAL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    Roff::new()
        .control("SH", ["SEE ALSO"])
        .text([
            bold("belvo-gateway"),
            roman("(1), "),
            bold("belvo-gateway.toml"),
            roman("(5), and the files in /usr/share/doc/belvo-gateway"),
        ])
        .to_writer(&mut text)?;
    fs::write(directory.join(page.get_filename()), text)?;
    Ok(())
}

/// The page of the configuration: the example, whose comments say what each key does and puts at risk.
fn configuration(version: &str, example: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut page = Roff::new();
    page.control(
        "TH",
        [
            "belvo-gateway.toml",
            "5",
            "",
            &format!("belvo-gateway {version}"),
            MANUAL,
        ],
    );
    page.control("SH", ["NAME"]);
    page.text([roman(
        "belvo-gateway.toml - configuration of belvo-gateway, /etc/belvo-gateway/config.toml",
    )]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A TOML file. This is the example that comes with the program: every key there is, with its default.",
    )]);
    page.control("PP", []);
    page.control("nf", []);
    for line in example.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    let mut text = Vec::new();
    page.to_writer(&mut text)?;
    Ok(text)
}
