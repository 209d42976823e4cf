//! Sealing marks that are not proven although the ledger knows their links: a version without seals has made
//! the link, or the key was lost. The mark is sealed as the ledger has it.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::kernel::{self, NetnsFile, SurveyedLink};
use crate::ledger::attached::Attached;
use crate::ledger::holder::Holder;
use crate::ledger::record::Record;
use crate::net::link::Link;
use crate::net::mark::Mark;
use crate::net::seal::Key;

/// A link whose mark is to be sealed.
#[derive(Clone, Debug)]
pub(crate) struct Reseal {
    mark: Mark,
    holder: Holder,
    attached: Attached,
    ifindex: u32,
}

impl fmt::Display for Reseal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (link, container) = (&self.attached.ifname, &self.mark.container);
        write!(f, "# seal the mark of link {link} of container {container}")
    }
}

/// Returns the links of living containers among `records` whose marks have no seal of `key`.
pub(crate) fn find(records: &[Record], seen: &[SurveyedLink], key: Option<&Key>) -> Vec<Reseal> {
    let seen: BTreeMap<_, _> = seen.iter().map(|seen| ((seen.netns.id(), seen.link.ifindex), seen)).collect();
    let mut found = Vec::new();
    for record in records.iter().filter(|record| !record.is_pending()) {
        let holder = &record.holder;
        for (mark, attached) in record.marked() {
            let Some(ifindex) = attached.ifindex else { continue };
            let Some(seen) = seen.get(&(holder.netns().id(), ifindex)) else { continue };
            let is_unsealed = seen.alias.mark == mark && !seen.is_proven(key);
            if is_unsealed && is_as_made(attached, &seen.link) && kernel::is_alive(holder) {
                found.push(Reseal { mark, holder: holder.clone(), attached: attached.clone(), ifindex });
            }
        }
    }
    found
}

/// Seals the mark if the link has not changed. Returns true if it was sealed.
pub(crate) fn apply(reseal: &Reseal, key: &Key) -> Result<bool> {
    let Reseal { mark, holder, attached, ifindex } = reseal;
    let gone = || Error::input(format!("the network namespace of container {} is gone", mark.container));
    let (_, netns) = NetnsFile::of(holder)?.ok_or_else(gone)?;
    netns.inside(|| kernel::reseal(mark, *ifindex, key, &netns, |link| is_as_made(attached, link)))
}

/// Returns true if `link` has the parent and MAC address of the ledger. A seal proves both, so they must be
/// right.
pub(crate) fn is_as_made(attached: &Attached, link: &Link) -> bool {
    let parents = [attached.parent_index, attached.segment];
    link.driver.is_some_and(|driver| driver.kind() == attached.driver.kind())
        && link.elsewhere.is_some_and(|parent| parents.contains(&parent.ifindex))
        && (attached.own_mac().is_none() || link.mac == attached.mac)
}
