//! An errno as a sentence: what a refusal means for an operation, and what to do.

use std::fmt::Display;

use nix::libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBUSY, EEXIST, EINVAL, ENETUNREACH, ENODEV, EOPNOTSUPP,
    EPERM,
};

use super::reply::Refusal;
use super::socket::refused;
use crate::error::{Error, Kind};
use crate::escape::shell::Line;
use crate::net::driver::{Driver, MacvlanMode};
use crate::net::parent::{MadeParent, ParentSpec};
use crate::plan::host::HostOp;
use crate::plan::{Configure, CreateLink, Removal};

/// Returns true if an operation was refused because an address or MAC address is in use on the segment.
pub(crate) fn is_address_in_use(error: &Error) -> bool {
    error.kind() == Kind::Kernel(EADDRINUSE)
}

/// Says why the link of `create` was not made.
pub(crate) fn create_link(create: &CreateLink, refusal: &Refusal) -> Error {
    let CreateLink { name, parent, driver, mac, .. } = create;
    let kind = driver.kind();
    let (sentence, hint) = match (refusal.errno, driver) {
        (EEXIST, _) => (
            format!("interface {name} exists in the container already"),
            "ask for another ifname, or leave it out".into(),
        ),
        (ENODEV, _) => (
            format!("parent {parent} is gone"),
            format!("bring it back and see it with `{}`", Line::of("ip link show").named("dev", parent)),
        ),
        (EBUSY, _) => (
            format!("parent {parent} is in use by another driver and takes no {kind} link"),
            format!(
                "a parent carries either macvlan or ipvlan links and cannot be a port of a bridge or bond: \
                 use another parent, or the driver of its other links instead of {kind}"
            ),
        ),
        (EINVAL, Driver::Macvlan { mode: MacvlanMode::Passthru }) => (
            format!("parent {parent} has macvlan links already, and passthru wants it alone"),
            "use another parent, or mode bridge".into(),
        ),
        (EINVAL, Driver::Macvlan { .. }) => (
            format!("parent {parent} takes no further macvlan link"),
            "one of its links has mode passthru, which wants the parent alone: use another parent".into(),
        ),
        (EADDRNOTAVAIL, _) => (
            format!(
                "MAC address {} cannot be that of a link",
                mac.map_or(String::new(), |mac| mac.to_string())
            ),
            "use a unicast address, best a locally administered one like 02:00:00:00:00:01".into(),
        ),
        (EOPNOTSUPP, _) => (
            format!("this kernel has no {kind} driver"),
            format!("load it with `modprobe {kind}`, or install the kernel's module package"),
        ),
        (EPERM, _) => (
            format!("no permission to make a link on parent {parent}"),
            "the hook needs CAP_NET_ADMIN on the host: run the engine as root, not rootless".into(),
        ),
        _ => return refused(&format!("do `{}`", create.line()), refusal),
    };
    error(&create.line(), refusal, &sentence, &hint)
}

/// Says why `step` was refused.
pub(crate) fn configure(step: &Configure, refusal: &Refusal) -> Error {
    let (sentence, hint) = match (step, refusal.errno) {
        (Configure::AddAddress { address, .. }, EADDRINUSE) => (
            format!("address {address} is in use on another ipvlan link of the same parent"),
            "a container that underlay does not know of has it: ask for another address",
        ),
        (Configure::AddAddress { link, address, .. }, EACCES) => (
            format!("IPv6 is switched off for {link}, so it cannot have {address}"),
            "remove net.ipv6.conf.*.disable_ipv6 from the container's sysctls",
        ),
        (Configure::SetUp { link, .. }, EADDRINUSE | EBUSY) => (
            format!("the MAC address of {link} is in use on the same parent"),
            "ask for another mac, or leave it out to get a free one",
        ),
        (Configure::AddRoute { route, table: Some(table), .. }, EEXIST) => (
            format!("table {table} of the container has a route to {} already", route.to),
            "give each link a table of its own",
        ),
        (Configure::AddRoute { route, table: None, .. }, EEXIST) => (
            format!("the container has a route to {} already", route.to),
            "let one network alone give the default route",
        ),
        (Configure::AddRoute { link, route, .. }, ENETUNREACH) => (
            format!("{link} does not reach {}", route.via.map_or(String::new(), |via| via.to_string())),
            "the gateway must lie in the subnet of the link, or be onlink",
        ),
        (Configure::AddRule { from, .. }, EEXIST) => {
            (format!("the container has a rule for {from} already"), "see it with `ip rule` in the container")
        }
        (Configure::AddRule { from, table }, EOPNOTSUPP | EAFNOSUPPORT) => (
            format!("this kernel has no routing rules, so {from} cannot have table {table}"),
            "leave table out, or use a kernel with CONFIG_IP_MULTIPLE_TABLES",
        ),
        _ => return refused(&format!("do `{}`", step.line()), refusal),
    };
    error(&step.line(), refusal, &sentence, hint)
}

/// Says why `parent` was not made; `op` writes the command.
pub(crate) fn make_parent(parent: &MadeParent, op: &HostOp, refusal: &Refusal) -> Error {
    let MadeParent { name, recipe, .. } = parent;
    let (sentence, hint) = match (refusal.errno, recipe) {
        (EEXIST, ParentSpec::Vlan { .. }) => (
            format!("{recipe} exists under another name than {name}"),
            format!("find it with `ip -d link show type vlan`, and name that as parent instead of {name}"),
        ),
        (EOPNOTSUPP, ParentSpec::Vlan { base, .. }) => (
            format!("{base} cannot carry VLANs, or this kernel has no 8021q driver"),
            "load it with `modprobe 8021q`, or use another parent".into(),
        ),
        (EPERM, _) => (format!("no permission to make {name}"), "run it as root, with CAP_NET_ADMIN".into()),
        _ => return refused(&format!("do `{op}`"), refusal),
    };
    error(op, refusal, &sentence, &hint)
}

/// Says why `removal` was refused.
pub(crate) fn removal(removal: &Removal, refusal: &Refusal) -> Error {
    refused(&format!("do `{}`", removal.line()), refusal)
}

/// At the end are the shell command that does the same, the kernel's explanation, and the errno.
fn error(op: &dyn Display, refusal: &Refusal, sentence: &str, hint: &str) -> Error {
    Error::new(Kind::Kernel(refusal.errno), format!("{sentence} ({op}: {refusal})")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{IpvlanFlag, IpvlanMode};

    #[test]
    fn a_refusal_keeps_the_kernels_words() {
        let (link, address) = ("eth0".parse().unwrap(), "10.0.0.9/24".parse().unwrap());
        let step = Configure::AddAddress { link, address, lifetime: None };
        let text = Some("Address already assigned to an ipvlan device".to_owned());
        let error = configure(&step, &Refusal { errno: EADDRINUSE, text });
        assert_eq!(
            error.to_string(),
            "address 10.0.0.9/24 is in use on another ipvlan link of the same parent \
             (ip addr add 10.0.0.9/24 brd 10.0.0.255 dev eth0: Address already assigned to an ipvlan device: Address in use (os error 98))"
                .replace("Address in use", "Address already in use")
        );
        assert!(error.hint_text().is_some());
    }

    #[test]
    fn every_refusal_has_a_sentence() {
        let driver = Driver::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
        let create = CreateLink {
            name: "eth0".parse().unwrap(),
            parent: "lan0".parse().unwrap(),
            parent_index: 2,
            driver,
            mac: None,
            mtu: None,
            bclim: None,
            options: crate::net::link_options::LinkOptions::default(),
            group: 1,
        };
        for errno in 1..=133 {
            let error = create_link(&create, &Refusal { errno, text: None });
            assert_eq!(error.kind(), Kind::Kernel(errno));
            assert!(
                error.to_string().contains("eth0")
                    || error.to_string().contains("lan0")
                    || errno == EOPNOTSUPP
                    || errno == EADDRNOTAVAIL
            );
        }
    }
}
