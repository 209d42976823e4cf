//! A difference between what the ledger says and what the kernel tells.

use std::fmt;

use serde::Serialize;

use crate::ledger::attached::Attached;
use crate::net::name::{ContainerId, IfName, NetworkName};

/// One thing that is not as the ledger says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// The container it is about, if about one.
    pub container: Option<ContainerId>,
    /// The network, if about one.
    pub network: Option<NetworkName>,
    /// The interface by its name in the container, or a link of the host.
    pub interface: Option<IfName>,
    /// What differs.
    pub what: What,
    /// What the ledger says; none if there should be nothing.
    pub expected: Option<String>,
    /// What there is; none if there is nothing.
    pub found: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// The process a container is known by.
    Process,
    /// The network namespace of that process.
    Netns,
    /// How far an attach has come.
    Attach,
    /// Whether a link is there.
    Link,
    /// The name of a link.
    Name,
    /// The number of a link.
    Ifindex,
    /// Whether a link is set up.
    State,
    /// The alias that marks a link as ours.
    Mark,
    /// The type of a link, its mode and flag.
    Driver,
    /// The MAC address of a link.
    Mac,
    /// The MTU of a link.
    Mtu,
    /// A queue, sysctl or list of a link.
    Setting,
    /// An address of a link.
    Address,
    /// Whether an address is for a time, as its lease is.
    Lifetime,
    /// Whether a lease is renewed.
    Renewal,
    /// A route by a link.
    Route,
    /// A rule that leads to the routes of a link.
    Rule,
    /// The parent of a link, or one that underlay has made.
    Parent,
    /// The lease of an address.
    Lease,
    /// A file of the ledger.
    File,
}

/// The hint of a container that is dead.
pub(crate) const RECLAIMED: &str = "`underlay gc` reclaims what dead containers hold";

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The hint if a lease is over, or about to be.
pub(crate) const NO_AGENT: &str =
    "an agent renews leases: `systemctl enable --now underlay-agent.path`, or `underlay agent`";

impl Difference {
    /// A difference that is of no container or link yet, with the hint that holds if there is no better one.
    pub(crate) fn new(what: What, expected: Option<String>, found: Option<String>) -> Self {
        let hint = match what {
            What::Process => Some(RECLAIMED),
            What::Attach => Some("if its attach is not under way, it was cut short: restart the container"),
            What::Lease => Some("`underlay gc` writes missing leases, and removes those without a record"),
            What::Parent => Some("bring the parent back as it was, or restart the container"),
            What::File => None,
            What::Renewal => Some(NO_AGENT),
            What::Lifetime => Some("an agent that starts sets it: `systemctl restart underlay-agent`"),
            _ => Some("a restarted container is attached anew"),
        };
        let hint = hint.map(str::to_owned);
        Self { container: None, network: None, interface: None, what, expected, found, hint }
    }

    /// Something that is missing.
    pub(crate) fn missing(what: What, expected: impl ToString) -> Self {
        Self::new(what, Some(expected.to_string()), None)
    }

    /// Something that should not be there.
    pub(crate) fn extra(what: What, found: impl ToString) -> Self {
        Self::new(what, None, Some(found.to_string()))
    }

    /// The same of a container.
    pub(crate) fn of(self, container: &ContainerId) -> Self {
        Self { container: Some(container.clone()), ..self }
    }

    /// The same of a container's link.
    pub(crate) fn at(self, attached: &Attached) -> Self {
        let (network, interface) = (Some(attached.network.clone()), Some(attached.ifname.clone()));
        Self { network, interface, ..self }
    }

    /// The same of a link of the host.
    pub(crate) fn at_parent(self, name: &IfName) -> Self {
        Self { interface: Some(name.clone()), ..self }
    }

    /// The same with a better hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
