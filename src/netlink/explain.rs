//! An errno as a sentence: what a refusal means for an operation, and what to do.

use nix::libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBUSY, EEXIST, EINVAL, ENETUNREACH, ENODEV, EOPNOTSUPP,
    EPERM,
};

use super::reply::Refusal;
use crate::error::{Error, Kind};
use crate::escape::shell::Line;
use crate::net::driver::{Driver, Kind as DriverKind, MacvlanMode};
use crate::net::parent::ParentSpec;
use crate::plan::Op;

/// Returns true if an operation was refused because an address or MAC address is in use on the segment.
pub(crate) fn is_in_use(error: &Error) -> bool {
    error.kind() == Kind::Kernel(EADDRINUSE)
}

/// Says why `op` was refused. At the end are `op` as a shell command, the kernel's explanation, and the errno.
pub(crate) fn explain(op: &Op, refusal: &Refusal) -> Error {
    let (sentence, hint) = known(op, refusal.errno).unwrap_or_else(|| (cannot(op), String::new()));
    let error = Error::new(Kind::Kernel(refusal.errno), format!("{sentence} ({op}: {refusal})"));
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// Returns the sentence and the hint for a refusal whose cause is known.
fn known(op: &Op, errno: i32) -> Option<(String, String)> {
    Some(match (op, errno) {
        (Op::CreateLink { name, .. }, EEXIST) => (
            format!("interface {name} exists in the container already"),
            "ask for another ifname, or leave it out".into(),
        ),
        (Op::CreateLink { parent, .. }, ENODEV) => (
            format!("parent {parent} is gone"),
            format!("bring it back and see it with `{}`", Line::of("ip link show").named("dev", parent)),
        ),
        (Op::CreateLink { parent, driver, .. }, EBUSY) => (
            format!("parent {parent} is in use by another driver and takes no {} link", driver.kind()),
            format!(
                "a parent carries either macvlan or ipvlan links and cannot be a port of a bridge or bond: \
                 use another parent, or the driver of its other links instead of {}",
                driver.kind()
            ),
        ),
        (Op::CreateLink { parent, driver: Driver::Macvlan { mode }, .. }, EINVAL) => match mode {
            MacvlanMode::Passthru => (
                format!("parent {parent} has macvlan links already, and passthru wants it alone"),
                "use another parent, or mode bridge".into(),
            ),
            _ => (
                format!("parent {parent} takes no further macvlan link"),
                "one of its links has mode passthru, which wants the parent alone: use another parent".into(),
            ),
        },
        (Op::CreateLink { mac, .. }, EADDRNOTAVAIL) => (
            format!(
                "MAC address {} cannot be that of a link",
                mac.map_or(String::new(), |mac| mac.to_string())
            ),
            "use a unicast address, best a locally administered one like 02:00:00:00:00:01".into(),
        ),
        (Op::CreateLink { driver, .. }, EOPNOTSUPP) => (
            format!("this kernel has no {} driver", driver.kind()),
            format!("load it with `modprobe {}`, or install the kernel's module package", driver.kind()),
        ),
        (Op::CreateLink { parent, .. }, EPERM) => (
            format!("no permission to make a link on parent {parent}"),
            "the hook needs CAP_NET_ADMIN on the host: run the engine as root, not rootless".into(),
        ),
        (Op::AddAddress { address, .. }, EADDRINUSE) => (
            format!("address {address} is in use on another {} link of the same parent", DriverKind::Ipvlan),
            "a container that underlay does not know of has it: ask for another address".into(),
        ),
        (Op::AddAddress { link, address }, EACCES) => (
            format!("IPv6 is switched off for {link}, so it cannot have {address}"),
            "remove net.ipv6.conf.*.disable_ipv6 from the container's sysctls".into(),
        ),
        (Op::SetUp { link, .. }, EADDRINUSE | EBUSY) => (
            format!("the MAC address of {link} is in use on the same parent"),
            "ask for another mac, or leave it out to get a free one".into(),
        ),
        (Op::AddRoute { route, table: Some(table), .. }, EEXIST) => (
            format!("table {table} of the container has a route to {} already", route.to),
            "give each link a table of its own".into(),
        ),
        (Op::AddRoute { route, table: None, .. }, EEXIST) => (
            format!("the container has a route to {} already", route.to),
            "let one network alone give the default route".into(),
        ),
        (Op::AddRoute { link, route, .. }, ENETUNREACH) => (
            format!("{link} does not reach {}", route.via.map_or(String::new(), |via| via.to_string())),
            "the gateway must lie in the subnet of the link, or be onlink".into(),
        ),
        (Op::AddRule { from, .. }, EEXIST) => (
            format!("the container has a rule for {from} already"),
            "see it with `ip rule` in the container".into(),
        ),
        (Op::AddRule { from, table }, EOPNOTSUPP | EAFNOSUPPORT) => (
            format!("this kernel has no routing rules, so {from} cannot have table {table}"),
            "leave table out, or use a kernel with CONFIG_IP_MULTIPLE_TABLES".into(),
        ),
        (Op::MakeParent { name, recipe: recipe @ ParentSpec::Vlan { .. } }, EEXIST) => (
            format!("{recipe} exists under another name than {name}"),
            format!("find it with `ip -d link show type vlan`, and name that as parent instead of {name}"),
        ),
        (Op::MakeParent { recipe: ParentSpec::Vlan { base, .. }, .. }, EOPNOTSUPP) => (
            format!("{base} cannot carry VLANs, or this kernel has no 8021q driver"),
            "load it with `modprobe 8021q`, or use another parent".into(),
        ),
        (Op::MakeParent { name, .. }, EPERM) => {
            (format!("no permission to make {name}"), "run it as root, with CAP_NET_ADMIN".into())
        }
        _ => return None,
    })
}

/// Returns the sentence for a refusal whose cause is not known.
fn cannot(op: &Op) -> String {
    match op {
        Op::CreateLink { name, parent, driver, .. } => {
            format!("cannot make {} link {name} on parent {parent}", driver.kind())
        }
        Op::AddAddress { link, address } => format!("cannot give {link} the address {address}"),
        Op::SetUp { link, .. } => format!("cannot set {link} up"),
        Op::AddRoute { link, route, .. } => format!("cannot route {} by {link}", route.to),
        Op::AddRule { from, .. } => format!("cannot make a rule for {from}"),
        Op::MakeParent { name, recipe } => format!("cannot make {name} ({recipe})"),
        _ => format!("cannot do `{op}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{IpvlanFlag, IpvlanMode};

    #[test]
    fn a_refusal_keeps_the_kernels_words() {
        let op = Op::AddAddress { link: "eth0".parse().unwrap(), address: "10.0.0.9/24".parse().unwrap() };
        let text = Some("Address already assigned to an ipvlan device".to_owned());
        let error = explain(&op, &Refusal { errno: EADDRINUSE, text });
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
        let create = Op::CreateLink {
            name: "eth0".parse().unwrap(),
            parent: "lan0".parse().unwrap(),
            parent_index: 2,
            driver,
            mac: None,
            mtu: None,
            bclim: None,
            tuning: crate::net::link_options::LinkOptions::default(),
            group: 1,
        };
        for errno in 1..=133 {
            let error = explain(&create, &Refusal { errno, text: None });
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
