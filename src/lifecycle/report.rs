//! Reporting: events go to the ledger's event log and to the system log.

use crate::kernel;
use crate::ledger::Store;
use crate::ledger::event::Event;

/// Reports `event`. Nothing depends on it, so failures are ignored.
pub(crate) fn report(store: &Store, event: &Event) {
    store.record_event(event);
    kernel::write_system_log(event);
}
