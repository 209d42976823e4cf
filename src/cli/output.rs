//! Printing: results to stdout, messages to stderr, and only what is [`printable`] to both.

use std::io::{self, Write};

use clap::ValueEnum;
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

/// Prints an error and its hint to stderr.
pub(super) fn error(error: &Error) {
    let hint =
        error.hint_text().map(|hint| format!("\nhint: {}", printable::message(hint))).unwrap_or_default();
    message(&format!("underlay: {}{hint}", printable::message(&error.to_string())));
}

/// Prints a warning to stderr: what was asked for is done all the same.
pub(super) fn warning(text: &str) {
    message(&format!("underlay: warning: {}", printable::message(text)));
}

/// Prints what clap has to say: help and version to stdout, a wrong command line, whose words it repeats, to stderr.
pub(super) fn usage(error: &clap::Error) {
    let text = printable::lines(error.to_string().trim_end_matches('\n'));
    if error.use_stderr() {
        message(&text);
    } else {
        // Nothing can be said about a stdout that is broken.
        let _ = write(&text);
    }
}

/// Begins to write diagnostics on stderr: warnings, or what RUST_LOG says.
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

/// Prints one line to stdout.
///
/// # Errors
/// When stdout is broken; a reader that has seen enough is no error.
pub(super) fn line(text: &str) -> Result<()> {
    write(&printable::line(text))
}

/// Prints what was done and what failed; that something did is an error, so that a service manager tries again.
///
/// # Errors
/// When anything failed, or stdout is broken.
pub(super) fn done(done: &[String], failed: &[Error]) -> Result<()> {
    done.iter().try_for_each(|text| line(text))?;
    failed.iter().for_each(error);
    match failed.len() {
        0 => Ok(()),
        1 => Err(Error::input("1 failure; the rest is done")),
        many => Err(Error::input(format!("{many} failures; the rest is done"))),
    }
}

/// Prints `value` as indented JSON.
///
/// # Errors
/// When stdout is broken.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::input(error.to_string()))?;
    write(&printable::json(&text))
}

/// Prints rows in aligned columns below `headings`.
///
/// # Errors
/// When stdout is broken.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Result<()> {
    let rows = std::iter::once(headings.map(str::to_owned))
        .chain(rows.iter().map(|row| row.each_ref().map(|cell| printable::line(cell))));
    let rows: Vec<[String; N]> = rows.collect();
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
    // Where stderr is closed there is nobody to tell.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
