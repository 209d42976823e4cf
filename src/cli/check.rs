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
    if differences.is_empty() {
        return Ok(());
    }
    if format == Format::Table {
        let rows: Vec<_> = differences.iter().map(row).collect();
        output::table(["CONTAINER", "NETWORK", "INTERFACE", "WHAT", "EXPECTED", "FOUND"], &rows)?;
    }
    let hints: BTreeSet<_> = differences.iter().filter_map(|difference| difference.hint.as_deref()).collect();
    let count = output::counted(differences.len(), "difference");
    let error = Error::input(format!("{count} between ledger and kernel"));
    Err(if hints.is_empty() { error } else { error.hint(Vec::from_iter(hints).join("; ")) })
}

fn row(difference: &Difference) -> [String; 6] {
    let Difference { container, network, interface, what, expected, found, hint: _ } = difference;
    let cells = [
        container.as_ref().map(|id| container::short(id.as_str())),
        network.as_ref().map(ToString::to_string),
        interface.as_ref().map(ToString::to_string),
        Some(what.to_string()),
        expected.clone(),
        found.clone(),
    ];
    cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
}
