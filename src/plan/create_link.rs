//! Creation of a macvlan or ipvlan link, of a container or the host.

use crate::escape::shell::Line;
use crate::ledger::attached::Attached;
use crate::net::driver::Driver;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::name::IfName;

/// Makes a link, down, with all options that apply at creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreateLink {
    pub name: IfName,
    /// The parent's name, for the shown command.
    pub parent: IfName,
    /// The parent's ifindex on the host.
    pub parent_index: u32,
    /// Its type and mode; the mode is always sent.
    pub driver: Driver,
    /// Its MAC address, if asked for.
    pub mac: Option<MacAddr>,
    /// Its MTU, if not the parent's.
    pub mtu: Option<u32>,
    /// Its limit for unqueued broadcasts, if not the kernel's.
    pub bclim: Option<i32>,
    /// Its other options; sysctls are set later.
    pub options: LinkOptions,
    /// The device group that identifies the link until it is marked.
    pub group: u32,
}

impl CreateLink {
    /// Returns the step for the link of `attached`.
    pub(crate) fn of(attached: &Attached, group: u32) -> Self {
        Self {
            name: attached.ifname.clone(),
            parent: attached.parent.clone(),
            parent_index: attached.parent_index,
            driver: attached.driver,
            mac: attached.mac,
            mtu: attached.mtu,
            bclim: attached.bclim,
            options: attached.tuning.clone(),
            group,
        }
    }

    /// Returns the equivalent command of iproute2.
    pub(crate) fn line(&self) -> Line {
        let Self { name, parent, driver, mac, mtu, bclim, options, .. } = self;
        let line = Line::of("ip link add link").word(parent).text("name").word(name);
        let line = line.option("address", *mac).option("mtu", *mtu);
        let line = line.option("txqueuelen", options.txqueuelen).text("type").split(driver);
        let line = line.option("bclim", *bclim).option("bcqueuelen", options.bcqueuelen);
        let line = if options.source_macs.is_empty() { line } else { line.text("macaddr set") };
        line.words(&options.source_macs)
    }
}
