//! Types of links that networks need and the kernel does not have.

use std::collections::BTreeSet;

use crate::config::network::Network;
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::networks::Defined;
use crate::error::Result;
use crate::escape::shell::Line;
use crate::kernel;
use crate::net::parent::ParentSpec;

/// Asks the kernel for a link of each type that `networks` need. It loads the module of a type if it has one, and makes no
/// link.
///
/// # Errors
/// When it does not tell its release.
pub(crate) fn modules(networks: &[Defined]) -> Result<Vec<Finding>> {
    let release = kernel::kernel_release()?;
    let mut types: BTreeSet<_> = networks.iter().flat_map(|one| needed(&one.network)).collect();
    types.retain(|kind| {
        let can = kernel::can_make(kind).inspect_err(|error| log::warn!("{kind} links: {error}"));
        can.is_ok_and(|can| !can)
    });
    Ok(types.iter().map(|kind| missing(&release, kind)).collect())
}

/// The types of links (`IFLA_INFO_KIND`) that `network` needs.
fn needed(network: &Network) -> Vec<String> {
    let parent = match network.recipe() {
        Ok(Some(ParentSpec::Vlan { .. })) => Some("vlan"),
        Ok(Some(ParentSpec::Dummy)) => Some("dummy"),
        _ => network.trunk.is_some().then_some("vlan"),
    };
    [network.driver.kind().to_string()].into_iter().chain(parent.map(str::to_owned)).collect()
}

fn missing(release: &str, kind: &str) -> Finding {
    let module = if kind == "vlan" { "8021q" } else { kind };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_networks_need() {
        let needed =
            |text: &str| needed(&Network::from_json(&"lan".parse().unwrap(), text.as_bytes()).unwrap());
        assert_eq!(needed(r#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#), ["macvlan"]);
        assert_eq!(needed(r#"{"version": 1, "driver": "ipvlan", "parent": "eth0.5"}"#), ["ipvlan", "vlan"]);
        assert_eq!(needed(r#"{"version": 1, "driver": "macvlan"}"#), ["macvlan", "dummy"]);
        let many = r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "vlans": "5-9"}"#;
        assert_eq!(needed(many), ["macvlan", "vlan"]);
        assert!(missing("6.1", "vlan").fix.to_string().ends_with(" 8021q"));
    }
}
