//! `underlay events`: the events since the boot, the oldest first.

use super::output::{self, Format};
use crate::error::Result;
use crate::ledger::Store;

pub(super) fn list(store: &Store, format: Format) -> Result<()> {
    let events = store.events()?;
    if format == Format::Json {
        return output::json(&events);
    }
    events.iter().try_for_each(|recorded| output::line(&format!("{} {}", recorded.time, recorded.event)))
}
