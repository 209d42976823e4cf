//! Hypervisors and clouds, which pass frames of the addresses they know and of no others.

use super::edit_driver;
use crate::config::network::Network;
use crate::diagnose::finding::{Finding, Severity, Subject};
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode, Kind};

/// What the firmware says of the machine (SMBIOS types 1 and 3, `/sys/class/dmi/id`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dmi {
    /// `sys_vendor`
    pub vendor: String,
    /// `product_name`
    pub product: String,
    /// `chassis_asset_tag`
    pub asset_tag: String,
    /// `bios_version`
    pub bios: String,
}

/// Where a virtual machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Platform {
    name: &'static str,
    /// Nobody can have it pass frames of other MAC addresses.
    is_closed: bool,
    /// What is to be done there.
    advice: &'static str,
}

/// The chassis asset tag of virtual machines in Azure.
const AZURE: &str = "7783-7084-3265-9085-8269-3286-77";

/// The platform that `dmi` tells of, if it is one that filters.
fn platform(dmi: &Dmi) -> Option<Platform> {
    let open = |name, advice| Some(Platform { name, is_closed: false, advice });
    let closed = |name, advice| Some(Platform { name, is_closed: true, advice });
    match (dmi.vendor.as_str(), dmi.product.as_str()) {
        ("VMware, Inc.", _) => open(
            "VMware",
            "or have the port group accept promiscuous mode, MAC address changes and forged transmits",
        ),
        ("Microsoft Corporation", "Virtual Machine") if dmi.asset_tag == AZURE => {
            closed("Azure", "and give the addresses to the machine's interface as secondary ones")
        }
        ("Microsoft Corporation", "Virtual Machine") => {
            open("Hyper-V", "or there, `Set-VMNetworkAdapter -VMName NAME -MacAddressSpoofing On`")
        }
        ("innotek GmbH", _) | (_, "VirtualBox") => {
            open("VirtualBox", "or there, `VBoxManage modifyvm NAME --nic-promisc1 allow-all`")
        }
        ("Parallels Software International Inc." | "Parallels International GmbH.", _) => {
            open("Parallels", "or let the virtual machine's adapter be promiscuous there")
        }
        ("Amazon EC2", _) => {
            closed("AWS", "and assign the addresses to the machine's network interface as secondary ones")
        }
        _ if dmi.bios.contains("amazon") => {
            closed("AWS", "and assign the addresses to the machine's network interface as secondary ones")
        }
        ("Google", "Google Compute Engine") => {
            closed("Google Compute Engine", "and give the machine the addresses as alias IP ranges")
        }
        ("DigitalOcean", _) => closed("DigitalOcean", "and use only addresses that it routes to the machine"),
        ("Hetzner", _) => closed("Hetzner Cloud", "and give the machine the addresses as alias IPs"),
        ("OpenStack Foundation", _) | (_, "OpenStack Nova" | "OpenStack Compute") => open(
            "OpenStack",
            "or there, `openstack port set --allowed-address ip-address=SUBNET,mac-address=MAC PORT`",
        ),
        _ => None,
    }
}

/// What the machine does to the containers of `network`, defined in `file`.
pub(crate) fn network(dmi: &Dmi, network: &Network, file: &str) -> Option<Finding> {
    let Platform { name, is_closed, advice } = platform(dmi)?;
    // Between the containers of a dummy link nothing leaves the machine.
    if network.driver.kind() != Kind::Macvlan || network.on_dummy {
        return None;
    }
    let severity = if is_closed { Severity::Warning } else { Severity::Note };
    let ipvlan = Driver::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
    let passes = if is_closed { "passes" } else { "by default passes" };
    let finding = Finding::new(
        (Subject::Machine, severity, "mac-filter"),
        format!("macvlan network {} is on a virtual machine of {name}", network.name),
        format!(
            "{name} {passes} frames of the machine's own MAC address only, and containers of macvlan networks have others: \
             use ipvlan, {advice}"
        ),
    );
    Some(finding.mended_by(edit_driver(file, ipvlan)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for (vendor, product, asset_tag, bios, name) in [
            ("VMware, Inc.", "VMware Virtual Platform", "No Asset Tag", "6.00", Some("VMware")),
            ("Microsoft Corporation", "Virtual Machine", AZURE, "090008", Some("Azure")),
            ("Microsoft Corporation", "Virtual Machine", "6543", "Hyper-V UEFI", Some("Hyper-V")),
            ("Microsoft Corporation", "Surface Pro", "", "", None),
            ("innotek GmbH", "VirtualBox", "", "VirtualBox", Some("VirtualBox")),
            ("Amazon EC2", "t3.micro", "Amazon EC2", "1.0", Some("AWS")),
            ("Xen", "HVM domU", "", "4.11.amazon", Some("AWS")),
            ("Google", "Google Compute Engine", "", "Google", Some("Google Compute Engine")),
            ("OpenStack Foundation", "OpenStack Nova", "", "", Some("OpenStack")),
            ("Hetzner", "vServer", "", "", Some("Hetzner Cloud")),
            ("QEMU", "Standard PC (Q35 + ICH9, 2009)", "", "", None),
            ("Dell Inc.", "PowerEdge R740", "", "2.1", None),
            ("", "", "", "", None),
        ] {
            let [vendor, product, asset_tag, bios] = [vendor, product, asset_tag, bios].map(str::to_owned);
            let dmi = Dmi { vendor, product, asset_tag, bios };
            assert_eq!(platform(&dmi).map(|platform| platform.name), name, "{dmi:?}");
        }
    }
}
