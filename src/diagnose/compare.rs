//! Compares what the ledger says of a link with what the kernel tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::network::Network;
use crate::dhcp::lease::Lease;
use crate::diagnose::difference::{Difference, NO_AGENT, What};
use crate::escape::shell::Line;
use crate::ledger::attached::Attached;
use crate::ledger::segment_hints::since_boot;
use crate::net::link::{Link, set_mtu};
use crate::net::link_options::{LinkOptions, Sysctl};
use crate::net::mark::{self, Mark};
use crate::net::name::IfName;
use crate::net::parent::MadeParent;
use crate::net::route::{Route, TableId};
use crate::net::seal::Alias;
use crate::plan::persistent::Persistent;

/// What there is of one attachment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actual {
    /// Its link in the container; see [`find`].
    pub link: Option<Link>,
    /// Its mark as it would be sealed, where the key is known.
    pub sealed: Option<Alias>,
    /// The addresses of the link.
    pub addresses: Vec<IpNet>,
    /// Those of them that are for a time.
    pub limited: Vec<IpNet>,
    /// The routes by the link.
    pub routes: Vec<Route>,
    /// Those in its own table.
    pub table_routes: Vec<Route>,
    /// The rules of ours, from which address to which table.
    pub rules: Vec<(IpAddr, TableId)>,
    /// Its sysctls, as far as the ledger names them.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// The host's namespace, as the container's counts its peers.
    pub host_nsid: Option<i32>,
    /// The host's link with the parent's number; else that with its name.
    pub parent: Option<Link>,
}

/// The link of `attached` among those of the container: the one of its number, else the one that bears `mark`.
pub(crate) fn find<'a>(attached: &Attached, mark: &Mark, links: &'a [Link]) -> Option<&'a Link> {
    let by_number = links.iter().find(|link| attached.ifindex == Some(link.ifindex));
    by_number.or_else(|| links.iter().find(|link| found_mark(link).as_ref() == Some(mark)))
}

fn found_mark(link: &Link) -> Option<Mark> {
    link.alias.as_deref()?.parse::<Alias>().ok().map(|alias| alias.mark)
}

/// What is compared, what the ledger says of it, and what there is.
type Row = (What, Option<String>, Option<String>);

/// What differs between `attached`, whose link has the mark `mark`, and what there is.
pub(crate) fn attachment(mark: &Mark, attached: &Attached, actual: &Actual) -> Vec<Difference> {
    let parent = described(attached.parent.as_str(), attached.parent_index, true);
    let mut rows = vec![(What::Parent, Some(parent), found_parent(attached, actual))];
    match &actual.link {
        Some(link) => rows.extend(of_link(mark, attached, link, actual)),
        None => rows.push((What::Link, Some(attached.ifname.to_string()), None)),
    }
    rows.retain(|(_, expected, found)| expected != found);
    let has_mark = actual.link.as_ref().and_then(found_mark).as_ref() == Some(mark);
    let now = since_boot();
    let expired = attached.addresses.iter().filter(|address| attached.has_expired(**address, now));
    let expired: Vec<_> = expired.map(ToString::to_string).collect();
    let difference = |(what, expected, found): Row| {
        // The kernel deletes the routes with the last address.
        let is_expired = match what {
            What::Address => expected.as_ref().is_some_and(|expected| expired.contains(expected)),
            _ => what == What::Route && !expired.is_empty(),
        };
        let is_expired = is_expired && found.is_none();
        let difference = Difference::new(what, expected, found).of(&mark.container).at(attached);
        match (what, attached.mtu, &actual.parent) {
            (What::Mark, ..) if has_mark => {
                difference.hint("`underlay gc` seals it, if the link is the one that was made")
            }
            // The kernel shrinks a link's MTU with that of its parent, and does not raise it again.
            (What::Mtu, Some(mtu), Some(parent)) if parent.mtu < mtu => {
                difference.hint(shrunk(&attached.parent, parent, mtu))
            }
            (What::Address, ..)
                if attached.dhcp_families().next().is_some() && difference.expected.is_none() =>
            {
                difference
                    .hint("a DHCP client in the container gets addresses, too: one of the two is enough")
            }
            _ if is_expired => difference.hint(NO_AGENT),
            _ => difference,
        }
    };
    rows.into_iter().map(difference).collect()
}

/// What the ledger says of `link`, its addresses and routes.
fn of_link(mark: &Mark, attached: &Attached, link: &Link, actual: &Actual) -> Vec<Row> {
    let sealed = actual.sealed.as_ref().map(ToString::to_string);
    // Without the key a seal cannot be told from another.
    let is_marked = found_mark(link).as_ref() == Some(mark);
    let alias = sealed.or_else(|| (!is_marked).then(|| mark.to_string()));
    let driver = link.driver.map(|driver| driver.to_string()).or_else(|| link.kind.clone());
    let (wanted, set) = (&attached.tuning, &link.tuning);
    let named = |name: &str, value: Option<u32>| value.map(|value| format!("{name} {value}"));
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let mut rows = vec![
        (What::Name, Some(attached.ifname.to_string()), Some(link.name.clone())),
        (What::Ifindex, number(attached.ifindex), number(Some(link.ifindex))),
        (What::State, Some(state(true)), Some(state(link.up))),
        (What::Mark, alias, link.alias.clone()),
        (What::Driver, Some(attached.driver.to_string()), driver),
        (What::Mac, attached.mac.map(|mac| mac.to_string()), link.mac.map(|mac| mac.to_string())),
        // Without one of its own a link has the MTU that its parent had when it was made, which is not known any more.
        (What::Mtu, number(attached.mtu), number(Some(link.mtu))),
        (What::Setting, named("txqueuelen", wanted.txqueuelen), named("txqueuelen", set.txqueuelen)),
        (What::Setting, named("bcqueuelen", wanted.bcqueuelen), named("bcqueuelen", set.bcqueuelen)),
        (What::Setting, Some(macs(wanted)).filter(|_| !wanted.source_macs.is_empty()), Some(macs(set))),
    ];
    // What the ledger does not say may be anything.
    rows.retain(|(_, expected, _)| expected.is_some());
    rows.extend(wanted.sysctls.iter().map(|(sysctl, value)| {
        let found = actual.sysctls.get(sysctl).map(|found| format!("{sysctl}={found}"));
        (What::Setting, Some(format!("{sysctl}={value}")), found)
    }));
    let (wanted, found) = (&attached.addresses, &actual.addresses);
    rows.extend(each(What::Address, wanted, found, IpNet::addr, IpNet::to_string));
    let is_known = |found: &IpNet| wanted.iter().any(|address| address.addr() == found.addr());
    let is_inside = |found: &IpNet| wanted.iter().any(|address| address.contains(&found.addr()));
    let more = found.iter().filter(|found| !is_known(found) && is_inside(found));
    rows.extend(more.map(|found| (What::Address, None, Some(found.to_string()))));
    rows.extend(lifetimes(attached, actual));
    let routes = |expected: &[Route], found: &[Route], table: &str| {
        let plain = |routes: &[Route]| routes.iter().map(plain).collect::<Vec<_>>();
        let told = |route: &Route| format!("{route}{table}");
        each(What::Route, &plain(expected), &plain(found), |route| route.to, told)
    };
    rows.extend(routes(&attached.routes, &actual.routes, ""));
    if let Some(table) = &attached.table {
        rows.extend(routes(&table.routes, &actual.table_routes, &format!(" table {}", table.id)));
        let rules: Vec<_> = wanted.iter().map(|net| (net.addr(), table.id)).collect();
        let told = |&(from, table): &(IpAddr, TableId)| Persistent::Rule { from, table }.to_string();
        rows.extend(each(What::Rule, &rules, &actual.rules, |&(from, _)| from, told));
    }
    rows
}

/// Whether the addresses by DHCP that are there end with their leases.
fn lifetimes(attached: &Attached, actual: &Actual) -> impl Iterator<Item = Row> {
    let is_there = |lease: &Lease| actual.addresses.contains(&lease.address());
    attached.dhcp_leases().filter(is_there).map(|lease| {
        let address = lease.address();
        let told =
            |is_limited| Some(format!("{address} {}", if is_limited { "for a time" } else { "for ever" }));
        (What::Lifetime, told(lease.times().limits.is_some()), told(actual.limited.contains(&address)))
    })
}

/// Each of `expected` beside the same one of `found`, or else beside one with the same key.
fn each<T: PartialEq, K: PartialEq>(
    what: What,
    expected: &[T],
    found: &[T],
    key: impl Fn(&T) -> K,
    told: impl Fn(&T) -> String,
) -> Vec<Row> {
    let row = |one: &T| {
        let same = found.iter().find(|other| *other == one);
        let alike = same.or_else(|| found.iter().find(|other| key(other) == key(one)));
        (what, Some(told(one)), alike.map(&told))
    };
    expected.iter().map(row).collect()
}

/// The MTU of a network, if its parent `link` does not allow it any more.
pub(crate) fn network(network: &Network, link: &Link) -> Option<Difference> {
    let mtu = network.file.mtu.filter(|&mtu| mtu > link.mtu)?;
    let shrunk = shrunk(&network.parent, link, mtu);
    let smaller = Difference::new(What::Mtu, Some(mtu.to_string()), Some(link.mtu.to_string())).hint(shrunk);
    Some(Difference { network: Some(network.name.clone()), ..smaller.at_parent(&network.parent) })
}

fn shrunk(name: &IfName, link: &Link, mtu: u32) -> String {
    let (raise, now) = (set_mtu(name.as_str(), mtu), link.mtu);
    format!(
        "parent {name} has mtu {now} now: `{raise}`, then restart the container; or give the network a smaller mtu"
    )
}

/// The MAC addresses whose frames come in, which the kernel keeps in an order of its own.
fn macs(options: &LinkOptions) -> String {
    let macs: BTreeSet<_> = options.source_macs.iter().map(ToString::to_string).collect();
    format!("source_macs {}", macs.into_iter().collect::<Vec<_>>().join(" "))
}

/// What differs of a parent that underlay has made; `link` is the host's link of its name, `base` the one below it.
pub(crate) fn made_parent(
    parent: &MadeParent,
    link: Option<&Link>,
    base: Option<&Link>,
) -> Option<Difference> {
    let recipe = parent.recipe.to_string();
    let difference = match link {
        None => Difference::missing(What::Parent, recipe)
            .hint("the next attach to a network on it makes it again"),
        Some(link) if !link.is_made_parent() => {
            let fix = Line::of("ip link set").named("dev", &parent.name).text("alias").word(mark::PARENT);
            Difference::new(What::Mark, Some(mark::PARENT.to_owned()), link.alias.clone())
                .hint(format!("only with its mark it is deleted when nothing needs it: `{fix}`"))
        }
        Some(link) if parent.recipe.verify(link, base).is_err() => {
            Difference::new(What::Parent, Some(recipe), Some(link.describe()))
        }
        Some(link) => {
            let expected = parent.ifindex.filter(|&ifindex| ifindex != link.ifindex)?;
            Difference::new(What::Ifindex, Some(expected.to_string()), Some(link.ifindex.to_string()))
                .hint("the next attach to a network on it records the new link")
        }
    };
    Some(difference.at_parent(&parent.name))
}

/// The parent of the link of `attached`; if it is the one of the ledger, its name, and whether it is up.
fn found_parent(attached: &Attached, actual: &Actual) -> Option<String> {
    if let Some(link) = &actual.link {
        if let Some(below) = link.lower {
            return Some(format!("ifindex {below} of the container"));
        }
        // The kernel puts links on a macvlan link on what is below that.
        let known = |ifindex| [attached.parent_index, attached.segment].contains(&ifindex);
        match link.elsewhere {
            Some(below) if Some(below.nsid) != actual.host_nsid => {
                return Some(format!("ifindex {} of another network namespace", below.ifindex));
            }
            Some(below) if !known(below.ifindex) => return Some(format!("ifindex {}", below.ifindex)),
            _ => {}
        }
    }
    actual.parent.as_ref().map(|link| described(&link.name, link.ifindex, link.up))
}

fn described(name: &str, ifindex: u32, up: bool) -> String {
    format!("{name} (ifindex {ifindex}, {})", state(up))
}

fn state(up: bool) -> String {
    if up { "up" } else { "down" }.to_owned()
}

/// The same route as the kernel tells it: without host bits, and without a metric that is the kernel's own.
fn plain(route: &Route) -> Route {
    let own = match route.to {
        IpNet::V4(_) => [0, 0],
        // The kernel takes 0 for none given.
        IpNet::V6(_) => [0, 1024],
    };
    Route { to: route.to.trunc(), metric: route.metric.filter(|metric| !own.contains(metric)), ..*route }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::Record;
    use crate::net::driver::{Driver, MacvlanMode};
    use crate::net::link::LinkNetns;

    const RECORD: &str = r#"{
        "version": 1, "container": "web", "state": "attached",
        "holder": {"pid": 7, "start_time": 8, "netns": {"device": 4, "inode": 5}},
        "attachments": [
            {"network": "lan", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "lan0", "parent_index": 3,
             "segment": 2, "ifname": "eth0", "ifindex": 9, "mac": "02:00:00:00:00:09",
             "addresses": ["10.0.0.9/24", "2001:db8::9/64"],
             "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}, {"to": "2001:db9::1/64", "metric": 1024}]}
        ]}"#;

    fn link(ifindex: u32, name: &str) -> Link {
        Link { ifindex, name: name.to_owned(), ..crate::net::link::eth0() }
    }

    fn mark(record: &Record) -> Mark {
        record.marked().next().unwrap().0
    }

    fn route(to: &str, via: Option<&str>, metric: Option<u32>) -> Route {
        Route { metric, ..Route::new(to.parse().unwrap(), via.map(|via| via.parse().unwrap())) }
    }

    /// What there is when all is well.
    fn well(record: &Record) -> Actual {
        let eth0 = Link {
            driver: Some(Driver::Macvlan { mode: MacvlanMode::Bridge }),
            elsewhere: Some(LinkNetns { ifindex: 2, nsid: 0 }),
            mac: record.attachments()[0].mac,
            alias: Some(mark(record).to_string()),
            ..link(9, "eth0")
        };
        Actual {
            link: Some(eth0),
            addresses: record.attachments()[0].addresses.clone(),
            routes: vec![route("2001:db9::/64", None, None), route("0.0.0.0/0", Some("10.0.0.1"), None)],
            host_nsid: Some(0),
            parent: Some(link(3, "lan0")),
            ..Actual::default()
        }
    }

    /// What differs after `change`.
    fn changed(change: impl FnOnce(&mut Actual)) -> Vec<String> {
        let record: Record = serde_json::from_str(RECORD).unwrap();
        let mut actual = well(&record);
        change(&mut actual);
        let or_none = |text: Option<String>| text.unwrap_or("-".to_owned());
        let all = attachment(&mark(&record), &record.attachments()[0], &actual).into_iter();
        all.map(|d| format!("{}: {} / {}", d.what, or_none(d.expected), or_none(d.found))).collect()
    }

    fn with_link(change: impl FnOnce(&mut Link)) -> Vec<String> {
        changed(|actual| change(actual.link.as_mut().unwrap()))
    }

    #[test]
    fn agreement() {
        assert_eq!(changed(|_| ()), [""; 0]);
        // The MTU is the parent's, whatever that was.
        assert_eq!(with_link(|link| link.mtu = 1400), [""; 0]);
        let beside = ["192.0.2.1/32", "2001:db8:1::9/64"].map(|address| address.parse::<IpNet>().unwrap());
        assert_eq!(changed(|actual| actual.addresses.extend(beside)), [""; 0]);
        assert_eq!(changed(|actual| actual.routes.push(route("10.9.0.0/16", None, None))), [""; 0]);
    }

    /// By number, then by mark; another of its name is not it.
    #[test]
    fn which_link_it_is() {
        let record: Record = serde_json::from_str(RECORD).unwrap();
        let (attached, mark) = (&record.attachments()[0], mark(&record));
        let links = [link(7, "eth0"), Link { alias: Some(mark.to_string()), ..link(8, "x") }, link(9, "y")];
        assert_eq!(find(attached, &mark, &links), Some(&links[2]));
        assert_eq!(find(attached, &mark, &links[..2]), Some(&links[1]));
        assert_eq!(find(attached, &mark, &links[..1]), None);
    }

    #[test]
    fn links() {
        assert_eq!(changed(|actual| actual.link = None), ["link: eth0 / -"]);
        assert_eq!(with_link(|link| link.name = "x".to_owned()), ["name: eth0 / x"]);
        assert_eq!(with_link(|link| link.ifindex = 8), ["ifindex: 9 / 8"]);
        assert_eq!(with_link(|link| link.up = false), ["state: up / down"]);
        assert_eq!(with_link(|link| link.mac = None), ["mac: 02:00:00:00:00:09 / -"]);
        let x = |link: &mut Link| link.alias = Some("x".to_owned());
        assert_eq!(with_link(x), ["mark: underlay:web:0:7:8:lan / x"]);
        let other = |link: &mut Link| (link.driver, link.kind) = (None, Some("veth".to_owned()));
        assert_eq!(with_link(other), ["driver: macvlan mode bridge / veth"]);
    }

    /// Only who knows the key can tell.
    #[test]
    fn seals() {
        let (bare, seal) = ("underlay:web:0:7:8:lan", "underlay:web:0:7:8:lan:0123456789abcdef");
        let with = |alias: &str, sealed: Option<&str>| {
            changed(|actual| {
                actual.sealed = sealed.map(|sealed| sealed.parse().unwrap());
                actual.link.as_mut().unwrap().alias = Some(alias.to_owned());
            })
        };
        assert_eq!((with(bare, None), with(seal, None), with(seal, Some(seal))), (vec![], vec![], vec![]));
        assert_eq!(with(bare, Some(seal)), [format!("mark: {seal} / {bare}")]);
        let other = seal.replace("0123", "3210");
        assert_eq!(with(&other, Some(seal)), [format!("mark: {seal} / {other}")]);
    }

    #[test]
    fn parents() {
        let differs = |found: &str| [format!("parent: lan0 (ifindex 3, up) / {found}")];
        assert_eq!(changed(|actual| actual.parent = None), differs("-"));
        assert_eq!(changed(|actual| actual.parent = Some(link(4, "lan0"))), differs("lan0 (ifindex 4, up)"));
        assert_eq!(
            changed(|actual| actual.host_nsid = None),
            differs("ifindex 2 of another network namespace")
        );
        let on = |ifindex| with_link(move |link| link.elsewhere = Some(LinkNetns { ifindex, nsid: 0 }));
        assert_eq!(on(3), [""; 0]);
        assert_eq!(on(4), differs("ifindex 4"));
        let inside = |link: &mut Link| (link.lower, link.elsewhere) = (Some(3), None);
        assert_eq!(with_link(inside), differs("ifindex 3 of the container"));
    }

    #[test]
    fn addresses_and_routes() {
        let address = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(
            changed(|actual| actual.addresses = vec![address("10.0.0.9/16"), address("2001:db8::7/64")]),
            [
                "address: 10.0.0.9/24 / 10.0.0.9/16",
                "address: 2001:db8::9/64 / -",
                "address: - / 2001:db8::7/64"
            ]
        );
        assert_eq!(
            changed(|actual| actual.routes = vec![route("0.0.0.0/0", Some("10.0.0.2"), Some(7))]),
            ["route: default via 10.0.0.1 / default via 10.0.0.2 metric 7", "route: 2001:db9::/64 / -"]
        );
        let twice =
            [route("0.0.0.0/0", Some("10.0.0.2"), Some(7)), route("0.0.0.0/0", Some("10.0.0.1"), None)];
        assert_eq!(changed(|actual| actual.routes.splice(1.., twice).for_each(drop)), [""; 0]);
    }
}
