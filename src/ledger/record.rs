//! The ledger's records: what a container holds, and by what it is known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::conflict_detection::Detection;
use crate::ledger::quarantine::Hints;
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode};
use crate::net::ipv6::Advertised;
use crate::net::lease_key::LeaseKey;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::mark::Mark;
use crate::net::name::{ContainerId, Identity, IfName, NetworkName};
use crate::net::netns::Netns;
use crate::net::route::{Route, Table};

/// The version of the record formats this program reads and writes.
pub(crate) const VERSION: u32 = 1;

/// What one container holds: `containers/ID.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The format; [`VERSION`].
    pub version: u32,
    /// The container.
    pub container: ContainerId,
    /// What it says it is when it comes again, if not its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// How far its attach has come.
    pub state: State,
    /// By what it is told whether the container lives.
    pub holder: Holder,
    /// Pid and start time that the marks of its links tell, where its holder is not the one they were made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked_as: Option<(i32, u64)>,
    /// The container of the same namespace whose attachments it uses, having none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<ContainerId>,
    /// Whether it was lost and is what the marks of links tell: what a container has changed of them since may be wrong,
    /// and is not remembered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuilt: bool,
    /// In the order asked for.
    pub attachments: Vec<Attached>,
}

/// How far an attach has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Addresses are held; links may or may not exist.
    Pending,
    /// Everything is in place.
    Attached,
}

/// The process and network namespace a container is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Its first process, as the runtime's namespace counts.
    pub pid: i32,
    /// When that process started, in clock ticks since boot (proc_pid_stat(5), field 22): a reused pid differs.
    pub start_time: u64,
    /// Inode of the pid namespace in which it has that pid: in another it has another, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// Its network namespace.
    pub netns: Netns,
}

/// One link of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// The network it belongs to.
    pub network: NetworkName,
    /// What it is.
    pub driver: Driver,
    /// The parent's name when it was made.
    pub parent: IfName,
    /// The parent's ifindex when it was made.
    pub parent_index: u32,
    /// The link whose ifindex names the layer-2 segment: nearly always the parent.
    pub segment: u32,
    /// Its name in the container.
    pub ifname: IfName,
    /// Its number in the container, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Its MAC address: its own, or the parent's, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its MTU, if not the parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its limit for unqueued broadcasts, if not the kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bclim: Option<i32>,
    /// What it has been given besides.
    #[serde(flatten)]
    pub tuning: LinkOptions,
    /// The host's link of the network, by which the host is to have a route to each of its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_link: Option<IfName>,
    /// How its addresses are probed for before it gets them, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Detection>,
    /// How often its addresses are announced.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub announcements: u32,
    /// What it takes from router advertisements, if it has IPv6.
    #[serde(default, skip_serializing_if = "Advertised::is_nothing")]
    pub advertised: Advertised,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Its routes besides those the addresses make.
    pub routes: Vec<Route>,
    /// The routes of its own, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
}

/// What is known of a layer-2 segment: `segments/IFINDEX/segment.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The format; [`VERSION`].
    pub version: u32,
    /// The name of the parent when last used.
    pub parent: IfName,
    /// The mode and flag its ipvlan links had last: the kernel keeps one for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipvlan: Option<(IpvlanMode, IpvlanFlag)>,
    /// The address handed out last, by pool.
    pub cursors: BTreeMap<String, IpAddr>,
    /// Addresses set aside, and links that may still answer.
    #[serde(flatten)]
    pub hints: Hints,
}

impl Attached {
    /// Whether its link has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.advertised.slaac.is_some() || self.addresses.iter().any(|net| net.addr().is_ipv6())
    }

    /// Takes away what it has of routes.
    pub(crate) fn clear_routes(&mut self) {
        self.routes.clear();
        self.advertised.default_route = false;
    }

    /// Its MAC address, if nobody else on the segment may have it.
    pub(crate) fn own_mac(&self) -> Option<MacAddr> {
        self.mac.filter(|_| self.driver.has_own_mac())
    }

    /// All that is leased for it.
    pub(crate) fn claims(&self) -> impl Iterator<Item = LeaseKey> {
        self.addresses.iter().map(|net| net.addr().into()).chain(self.own_mac().map(LeaseKey::from))
    }
}

impl Record {
    /// What the container is when it comes again.
    pub(crate) fn identity(&self) -> Identity {
        self.identity.clone().unwrap_or_else(|| Identity::from(&self.container))
    }

    /// Whether this container holds `claim` on `segment`.
    pub(crate) fn holds(&self, segment: u32, claim: LeaseKey) -> bool {
        self.attachments.iter().any(|a| a.segment == segment && a.claims().any(|held| held == claim))
    }

    /// Whether addresses of this container are probed for.
    pub(crate) fn is_probed(&self) -> bool {
        self.attachments.iter().any(|attached| attached.detection.is_some())
    }

    /// Pid and start time of the process its links were made for.
    fn made_for(&self) -> (i32, u64) {
        self.marked_as.unwrap_or((self.holder.pid, self.holder.start_time))
    }

    /// The same with another holder, whose the links are from now on.
    #[must_use]
    pub(crate) fn held_by(&self, holder: &Holder) -> Self {
        let marked_as = Some(self.made_for()).filter(|made| *made != (holder.pid, holder.start_time));
        Self { holder: holder.clone(), marked_as, ..self.clone() }
    }

    /// Each attachment with the mark of its link.
    pub(crate) fn marked(&self) -> impl DoubleEndedIterator<Item = (Mark, &Attached)> + ExactSizeIterator {
        let (pid, start_time) = self.made_for();
        self.attachments.iter().enumerate().map(move |(index, attached)| {
            let mark = Mark {
                container: self.container.clone(),
                index,
                pid,
                start_time,
                network: attached.network.clone(),
            };
            (mark, attached)
        })
    }
}

impl Segment {
    /// A segment nothing is known of yet.
    pub(crate) fn new(parent: IfName) -> Self {
        Self { version: VERSION, parent, ipvlan: None, cursors: BTreeMap::new(), hints: Hints::default() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
