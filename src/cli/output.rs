//! Printing: results to stdout, messages to stderr, and [`printable`] text only.

use std::fmt::Display;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use log::LevelFilter;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::escape::printable;

/// How a listing is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns
    Table,
    /// JSON
    Json,
}

// The option of commands that print a list. As a doc comment, this would be the help of these commands.
#[derive(Debug, Args)]
pub(super) struct Listing {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
}

/// Prints an error and its hint to stderr.
pub(super) fn error(error: &Error) {
    let hint =
        error.hint_text().map(|hint| format!("\nhint: {}", printable::message(hint))).unwrap_or_default();
    message(&format!("underlay: {}{hint}", printable::message(&error.to_string())));
}

/// Prints a warning to stderr: the command is carried out all the same.
pub(super) fn warning(text: &str) {
    message(&format!("underlay: warning: {}", printable::message(text)));
}

/// Prints a message of clap: help and version to stdout, an error, which repeats arguments, to stderr.
pub(super) fn usage(error: &clap::Error) {
    let text = printable::lines(error.to_string().trim_end_matches('\n'));
    if error.use_stderr() {
        message(&text);
    } else {
        // The exit code does not tell of a broken stdout.
        let _ = write(&text);
    }
}

/// From now on, writes diagnostics to stderr: warnings, or what RUST_LOG says.
pub(super) fn begin_log() {
    env_logger::Builder::new()
        .filter_level(LevelFilter::Warn)
        .parse_default_env()
        .format(|to, record| {
            let text = printable::message(&record.args().to_string());
            writeln!(to, "[{:<5}] {text}", record.level())
        })
        .init();
}

/// Prints one line to stdout. It is no error if a reader has closed the pipe.
pub(super) fn line(text: &str) -> Result<()> {
    write(&printable::line(text))
}

/// Prints what was done and what failed. A failure is an error, so that a service manager tries again.
pub(super) fn done(done: &[String], failed: &[Error]) -> Result<()> {
    done.iter().try_for_each(|text| line(text))?;
    failed.iter().for_each(error);
    match failed.len() {
        0 => Ok(()),
        count => Err(Error::input(format!("{}; the rest is done", counted(count, "failure")))),
    }
}

/// Returns `count` with the name of what is counted.
pub(super) fn counted(count: usize, what: impl Display) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns the last failure among `results`, and prints the others.
pub(super) fn last_failure(results: impl Iterator<Item = Result<()>>) -> Result<()> {
    let failures = results.filter_map(Result::err);
    let last = failures.reduce(|previous, next| {
        error(&previous);
        next
    });
    last.map_or(Ok(()), Err)
}

/// Prints `value` as indented JSON.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::bug(error.to_string()))?;
    write(&printable::json(&text))
}

/// Prints rows in aligned columns below `headings`.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Result<()> {
    let mut rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| printable::line(cell))).collect();
    rows.insert(0, headings.map(str::to_owned));
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Writes printable text and a line break to stdout.
fn write(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "stdout".as_ref(), &error))
        }
        _ => Ok(()),
    }
}

/// Writes printable text and a line break to stderr, in one piece.
fn message(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
