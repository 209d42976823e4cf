//! Printing: results to stdout, messages to stderr, control characters to neither.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::{Error, Result};

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
    let mut text = format!("underlay: {}\n", printable(&error.to_string()));
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("hint: {}\n", printable(hint)));
    }
    // Where stderr is closed there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints a warning to stderr: what was asked for is done all the same.
pub(super) fn warning(text: &str) {
    let _ = io::stderr().write_all(format!("underlay: warning: {}\n", printable(text)).as_bytes());
}

/// Prints one line to stdout.
///
/// # Errors
/// When stdout is broken; a reader that has seen enough is no error.
pub(super) fn line(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "stdout".as_ref(), &error))
        }
        _ => Ok(()),
    }
}

/// Prints `value` as indented JSON.
///
/// # Errors
/// When stdout is broken.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value).map_err(|error| Error::input(error.to_string()))?)
}

/// Prints rows in aligned columns below `headings`.
///
/// # Errors
/// When stdout is broken.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Result<()> {
    let headings = headings.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&headings).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&headings).chain(rows) {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// `text` without control characters: it may come from an annotation, and go to a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
