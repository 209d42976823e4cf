//! The story of a report: what has happened is written down, and told to the system's journal.

use crate::kernel;
use crate::ledger::Store;
use crate::ledger::event::Event;

/// Reports `event`, as far as that can be done: nothing depends on it.
pub(crate) fn report(store: &Store, event: &Event) {
    store.record_event(event);
    kernel::tell_journal(event);
}
