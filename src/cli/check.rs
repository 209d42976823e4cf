//! `underlay check`: prints what differs between ledger and kernel.

use std::collections::BTreeSet;

use super::container;
use super::output::{self, Format};
use crate::diagnose::check;
use crate::diagnose::difference::Difference;
use crate::error::{Error, Result};
use crate::ledger::Store;

/// Prints the differences. If there are any, that is an error, which sets the exit code.
pub(super) fn check(store: &Store, container: Option<&str>, format: Format) -> Result<()> {
    let differences = match container {
        Some(container) => check::container(store, &container::by_prefix(store, container)?)?,
        None => check::all(store)?,
    };
    if format == Format::Json {
        output::json(&differences)?;
    }
    let count = match differences.len() {
        0 => return Ok(()),
        1 => "1 difference".to_owned(),
        many => format!("{many} differences"),
    };
    if format == Format::Table {
        let rows: Vec<_> = differences.iter().map(row).collect();
        output::table(["CONTAINER", "NETWORK", "INTERFACE", "WHAT", "EXPECTED", "FOUND"], &rows)?;
    }
    let mut hints: Vec<&str> =
        differences.iter().filter_map(|difference| difference.hint.as_deref()).collect();
    let mut seen = BTreeSet::new();
    hints.retain(|hint| seen.insert(*hint));
    let error = Error::input(format!("{count} between ledger and kernel"));
    Err(if hints.is_empty() { error } else { error.hint(hints.join("; ")) })
}

fn row(difference: &Difference) -> [String; 6] {
    let Difference { container, network, interface, what, expected, found, hint: _ } = difference;
    let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    [
        or_none(container.as_ref().map(|id| container::short(id.as_str()))),
        or_none(network.as_ref().map(ToString::to_string)),
        or_none(interface.as_ref().map(ToString::to_string)),
        what.to_string(),
        or_none(expected.clone()),
        or_none(found.clone()),
    ]
}
