//! What the kernel can make, of what the networks need.

use crate::config::network::Network;
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;
use crate::net::driver::Kind;
use crate::net::parent::ParentSpec;

/// A type of link (`IFLA_INFO_KIND`), with the module that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkType {
    /// macvlan links.
    Macvlan,
    /// ipvlan links.
    Ipvlan,
    /// VLAN sub-interfaces.
    Vlan,
    /// Dummy links.
    Dummy,
}

impl LinkType {
    /// As rtnetlink calls it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Vlan => "vlan",
            Self::Dummy => "dummy",
        }
    }

    /// The module that has it, where the kernel does not.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Vlan => "8021q",
            other => other.kind(),
        }
    }
}

/// The types of links that `network` needs.
pub(crate) fn needed(network: &Network) -> Vec<LinkType> {
    let link = match network.driver.kind() {
        Kind::Macvlan => LinkType::Macvlan,
        Kind::Ipvlan => LinkType::Ipvlan,
    };
    let parent = match network.recipe() {
        Ok(Some(ParentSpec::Vlan { .. })) => Some(LinkType::Vlan),
        Ok(Some(ParentSpec::Dummy)) => Some(LinkType::Dummy),
        _ => network.trunk.is_some().then_some(LinkType::Vlan),
    };
    [link].into_iter().chain(parent).collect()
}

/// The kernel `release` has no links of type `missing`, neither built in nor as a module that it could load.
pub(crate) fn missing(release: &str, missing: LinkType) -> Finding {
    let (kind, module) = (missing.kind(), missing.module());
    Finding::new(
        (Area::Kernel, Severity::Error, "kernel-module"),
        format!("kernel {release} has no {kind} links"),
        format!(
            "networks need them; the module {module} is in a package of its own on some distributions \
             (linux-modules-extra, kernel-modules), and after an upgrade the running kernel finds no modules until the \
             machine is booted again"
        ),
        Line::of("modprobe").word(module),
    )
}

/// Whether a list of modules has `module`: `modules.dep`, `modules.builtin`, or `/proc/modules`, which has `_` for `-`.
pub(crate) fn lists(text: &str, module: &str) -> bool {
    text.lines().any(|line| {
        let path = line.split([':', ' ']).next().unwrap_or_default();
        let name = path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        name == module
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_modules() {
        for (text, found) in [
            ("kernel/drivers/net/macvlan.ko.xz: kernel/net/x.ko.xz\n", true),
            ("kernel/drivers/net/macvtap.ko: kernel/drivers/net/macvlan.ko\n", false),
            ("kernel/drivers/net/dummy.ko\nkernel/drivers/net/macvlan.ko\n", true),
            ("macvlan 28672 0 - Live 0x0000000000000000\n", true),
            ("macvtap 16384 0 - Live\nmacvlan2 1 0\n", false),
            ("", false),
        ] {
            assert_eq!(lists(text, "macvlan"), found, "{text}");
        }
    }

    #[test]
    fn what_networks_need() {
        let needed = |text: &str| {
            let network = Network::from_json(&"lan".parse().unwrap(), text.as_bytes()).unwrap();
            needed(&network).into_iter().map(LinkType::module).collect::<Vec<_>>()
        };
        assert_eq!(needed(r#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#), ["macvlan"]);
        assert_eq!(needed(r#"{"version": 1, "driver": "ipvlan", "parent": "eth0.5"}"#), ["ipvlan", "8021q"]);
        assert_eq!(needed(r#"{"version": 1, "driver": "macvlan"}"#), ["macvlan", "dummy"]);
        let many = r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "vlans": "5-9"}"#;
        assert_eq!(needed(many), ["macvlan", "8021q"]);
    }
}
