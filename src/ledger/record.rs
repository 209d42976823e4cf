//! Records: what a container holds, and its [holder](Holder).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dhcp::lease::Lease;
use crate::error::{Error, Result};
use crate::ledger::attached::Attached;
use crate::ledger::dhcp_link::DhcpLink;
use crate::ledger::holder::Holder;
use crate::ledger::quarantine::SegmentHints;
use crate::net::driver::{IpvlanFlag, IpvlanMode};
use crate::net::lease_key::LeaseKey;
use crate::net::mark::Mark;
use crate::net::name::{ContainerId, Identity, IfName};
use crate::net::value::is_default;

/// The version of the files that this program writes, except records of holders that version 2 does not know.
pub(crate) const VERSION: u32 = 2;
/// The newest version that it reads. An older program leaves these records and their leases alone.
pub(crate) const NEWEST: u32 = 3;

/// The record of a container: `containers/ID.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(crate) struct Record {
    pub container: ContainerId,
    /// The identity under which the container gets the same addresses again, if not its id.
    pub identity: Option<Identity>,
    /// What shows whether the container is alive.
    pub holder: Holder,
    /// The links that the container uses.
    pub links: Links,
}

/// The links that a container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Its own.
    Own(Own),
    /// Those of another container in the same network namespace.
    SharedWith(ContainerId),
}

/// The container's own links, and what is leased for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// How far the attach has come.
    pub state: State,
    /// The container and holder that the marks of the links name, if they were made for another container of
    /// the namespace, which has ended.
    pub made_for: Option<MadeFor>,
    /// True if the record was rebuilt from the marks of the links. The container may have changed its links
    /// before, so such a record is not saved as affinity.
    pub rebuilt: bool,
    /// The number by which the host knows the namespace of the links. While the record is pending, it may not be that
    /// namespace's number.
    pub nsid: Option<Nsid>,
    /// In the order asked for.
    pub attachments: Vec<Attached>,
}

/// The number by which one network namespace knows another (`NETNSA_NSID`). It leads to the links there even if no process
/// and no path leads to the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nsid {
    /// The inode of the namespace that knows it, the host's at the time: another one has other numbers.
    pub host: u64,
    /// The number.
    pub id: i32,
}

/// The container and the holder that a link was made for: its mark names both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct MadeFor {
    pub container: ContainerId,
    /// Its first process; or 0, if it had none.
    pub pid: i32,
    /// The start time of that process, or when its namespace was made: see [`Holder::stamp`].
    pub start_time: u64,
}

impl MadeFor {
    /// Returns the container and holder of `mark`.
    pub(crate) fn of(mark: &Mark) -> Self {
        Self { container: mark.container.clone(), pid: mark.pid, start_time: mark.start_time }
    }
}

/// The file of a record. Version 1 wrote `marked_as`, which names no container, and wrote `state` and an
/// empty list of attachments beside `shares`.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    container: ContainerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    holder: Holder,
    #[serde(default, skip_serializing)]
    marked_as: Option<(i32, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_for: Option<MadeFor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares: Option<ContainerId>,
    #[serde(default, skip_serializing_if = "is_default")]
    rebuilt: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nsid: Option<Nsid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attachments: Option<Vec<Attached>>,
}

impl TryFrom<Stored> for Record {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let Stored { container, identity, holder, rebuilt, nsid, .. } = stored;
        let links = match (stored.shares, stored.state, stored.attachments) {
            (Some(other), _, _) => Links::SharedWith(other),
            (None, Some(state), Some(attachments)) => {
                let of_version_1 = stored.marked_as.map(|(pid, start_time)| MadeFor {
                    container: container.clone(),
                    pid,
                    start_time,
                });
                let made_for = stored.made_for.or(of_version_1);
                Links::Own(Own { state, made_for, rebuilt, nsid, attachments })
            }
            (None, None, _) => return Err(Error::input("missing field `state`")),
            (None, Some(_), None) => return Err(Error::input("missing field `attachments`")),
        };
        Ok(Self { container, identity, holder, links })
    }
}

impl From<Record> for Stored {
    fn from(record: Record) -> Self {
        let Record { container, identity, holder, links } = record;
        let (own, shares) = match links {
            Links::Own(own) => (Some(own), None),
            Links::SharedWith(other) => (None, Some(other)),
        };
        Self {
            version: if holder.process().is_some() { VERSION } else { NEWEST },
            container,
            identity,
            state: own.as_ref().map(|own| own.state),
            holder,
            marked_as: None,
            made_for: own.as_ref().and_then(|own| own.made_for.clone()),
            shares,
            rebuilt: own.as_ref().is_some_and(|own| own.rebuilt),
            nsid: own.as_ref().and_then(|own| own.nsid),
            attachments: own.map(|own| own.attachments),
        }
    }
}

/// How far an attach has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Addresses are leased; links may or may not exist.
    Pending,
    /// Complete.
    Attached,
    /// Its container has ended, and poststop has left its links and leases to the agent.
    Ended,
}

/// The state of a layer-2 segment: `segments/IFINDEX/segment.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The format; [`VERSION`].
    pub version: u32,
    /// The name of the parent when last used.
    pub parent: IfName,
    /// The last mode and flag of its ipvlan links: the kernel has one for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipvlan: Option<(IpvlanMode, IpvlanFlag)>,
    /// The last allocated address, by pool.
    pub cursors: BTreeMap<String, IpAddr>,
    /// Quarantined addresses, and recently released links.
    #[serde(flatten)]
    pub hints: SegmentHints,
}

impl Record {
    /// Returns the container's own links, unless it uses those of another one.
    pub(crate) fn own(&self) -> Option<&Own> {
        match &self.links {
            Links::Own(own) => Some(own),
            Links::SharedWith(_) => None,
        }
    }

    /// Returns the container whose links this one uses, if they are not its own.
    pub(crate) fn shared_with(&self) -> Option<&ContainerId> {
        match &self.links {
            Links::Own(_) => None,
            Links::SharedWith(other) => Some(other),
        }
    }

    /// Returns the container's own attachments; none if it uses the links of another container.
    pub(crate) fn attachments(&self) -> &[Attached] {
        self.own().map_or(&[], |own| &own.attachments)
    }

    pub(crate) fn attachments_mut(&mut self) -> &mut [Attached] {
        match &mut self.links {
            Links::Own(own) => &mut own.attachments,
            Links::SharedWith(_) => &mut [],
        }
    }

    /// Gives its attachment `index` this `lease`. A route to where another attachment leads already is left out: the kernel has one.
    pub(crate) fn take_lease(&mut self, index: usize, lease: Lease) {
        let there = self.attachments().iter().enumerate().filter(|(other, _)| *other != index);
        let there = there.flat_map(|(_, attached)| &attached.routes).map(|route| (route.to, route.metric));
        let there: BTreeSet<_> = there.collect();
        let Some(attached) = self.attachments_mut().get_mut(index) else { return };
        attached.take_lease(lease);
        let given = attached.dhcp.as_ref().map(DhcpLink::routes).unwrap_or_default();
        attached.routes.retain(|route| !given.contains(route) || !there.contains(&(route.to, route.metric)));
    }

    /// Returns the record in another `state`; unchanged if its links are those of another container.
    pub(crate) fn in_state(&self, state: State) -> Self {
        let mut changed = self.clone();
        if let Links::Own(own) = &mut changed.links {
            own.state = state;
        }
        changed
    }

    /// Returns true if links may be missing: the attach runs, or was killed.
    pub(crate) fn is_pending(&self) -> bool {
        self.own().is_some_and(|own| own.state == State::Pending)
    }

    /// Returns true if poststop has left what it holds to the agent.
    pub(crate) fn has_ended(&self) -> bool {
        self.own().is_some_and(|own| own.state == State::Ended)
    }

    /// Returns true if its links are made, and its container has not ended.
    pub(crate) fn is_attached(&self) -> bool {
        !self.is_pending() && !self.has_ended()
    }

    /// The number by which the namespace with the inode `host` knows that of the links.
    pub(crate) fn nsid(&self, host: u64) -> Option<i32> {
        let nsid = self.own().and_then(|own| own.nsid)?;
        (nsid.host == host).then_some(nsid.id)
    }

    /// Returns true if the record was rebuilt from the marks of links.
    pub(crate) fn is_rebuilt(&self) -> bool {
        self.own().is_some_and(|own| own.rebuilt)
    }

    /// Returns the identity under which the container gets the same addresses again.
    pub(crate) fn identity(&self) -> Identity {
        self.identity.clone().unwrap_or_else(|| Identity::from(&self.container))
    }

    /// Returns the keys of its leases with their segments.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (u32, LeaseKey)> {
        self.attachments()
            .iter()
            .flat_map(|attached| attached.claims().map(|claim| (attached.segment, claim)))
    }

    /// Returns true if this container holds `claim` on `segment`.
    pub(crate) fn holds(&self, segment: u32, claim: LeaseKey) -> bool {
        self.claims().any(|held| held == (segment, claim))
    }

    /// Returns true if a link of its own is on one of `parents`, by ifindex.
    pub(crate) fn is_on(&self, parents: &[u32]) -> bool {
        self.attachments().iter().any(|attached| parents.contains(&attached.parent_index))
    }

    /// Returns true if an attachment gets an address from a DHCP server.
    pub(crate) fn has_dhcp(&self) -> bool {
        self.attachments().iter().any(|attached| attached.dhcp_families().next().is_some())
    }

    /// Returns true if an attachment has conflict detection.
    pub(crate) fn is_detected(&self) -> bool {
        self.attachments().iter().any(|attached| attached.detection.is_some())
    }

    /// Returns true if the attach probes for addresses.
    pub(crate) fn is_probed(&self) -> bool {
        self.attachments().iter().any(Attached::is_probed)
    }

    /// Returns the container and holder that the marks of its links name.
    pub(crate) fn made_for(&self) -> MadeFor {
        let own = || {
            let (pid, start_time) = self.holder.stamp();
            MadeFor { container: self.container.clone(), pid, start_time }
        };
        self.own().and_then(|own| own.made_for.clone()).unwrap_or_else(own)
    }

    /// Returns each attachment with the mark of its link.
    pub(crate) fn marked(&self) -> impl DoubleEndedIterator<Item = (Mark, &Attached)> + ExactSizeIterator {
        let MadeFor { container, pid, start_time } = self.made_for();
        self.attachments().iter().enumerate().map(move |(index, attached)| {
            let (container, network) = (container.clone(), attached.network.clone());
            (Mark { container, index, pid, start_time, network }, attached)
        })
    }
}

impl Segment {
    /// Returns the state of a new segment.
    pub(crate) fn new(parent: IfName) -> Self {
        let hints = SegmentHints::default();
        Self { version: VERSION, parent, ipvlan: None, cursors: BTreeMap::new(), hints }
    }
}
