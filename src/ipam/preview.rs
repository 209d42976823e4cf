//! What an attach would write, with nothing written.

use super::host_links;
use super::lease_table::LeaseTable;
use super::reserve::{Draft, Present, Subject};
use crate::error::{Kind, Result};
use crate::ipam::assign::Wanted;
use crate::ledger::Store;
use crate::ledger::host_link::HostLink;
use crate::ledger::record::{Holder, Record};

impl Store {
    /// The record that a container would have if it were attached now, and the host's links it would be reached by.
    /// `lives` tells whether a holder does: the dead give way where there is no room, as they would then.
    ///
    /// # Errors
    /// Those of [`Locked::reserve`](crate::ledger::Locked::reserve).
    pub(crate) fn preview(
        &self,
        subject: Subject<'_>,
        wanted: &[Wanted],
        present: &Present,
        lives: impl Fn(&Holder) -> bool,
    ) -> Result<(Record, Vec<HostLink>)> {
        let is_dead = |record: &Record| !lives(&record.holder);
        let of_same = |record: &Record| {
            record.container == *subject.container || Some(&record.identity()) == subject.identity
        };
        // Its own predecessor's are taken back at once, all others' if there is need.
        let own = |record: Option<&Record>| record.is_some_and(|record| of_same(record) && is_dead(record));
        let any = |record: Option<&Record>| record.is_none_or(is_dead);
        match self.look(subject, wanted, present, &own, &lives) {
            Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) => {
                self.look(subject, wanted, present, &any, &lives)
            }
            found => found,
        }
    }

    fn look(
        &self,
        subject: Subject<'_>,
        wanted: &[Wanted],
        present: &Present,
        gives_way: &dyn Fn(Option<&Record>) -> bool,
        lives: &dyn Fn(&Holder) -> bool,
    ) -> Result<(Record, Vec<HostLink>)> {
        let mut draft = Draft::new(LeaseTable::preview(self, gives_way), subject, present);
        let record = draft.record(wanted, lives)?;
        let mut leasing = draft.leasing;
        let mut links = Vec::new();
        for Wanted { network, parent, .. } in
            wanted.iter().filter(|wanted| wanted.network.file.host_access.is_some())
        {
            let mut draft = host_links::Draft::new(leasing, network, parent.segment());
            let known = draft.known()?;
            links.push(draft.link(known.as_ref(), parent, present)?);
            leasing = draft.leasing;
        }
        Ok((record, links))
    }
}
