//! Persistent rules and routes: rules, and routes without a next hop as blackhole, outlive the links of a
//! container. In a namespace that something keeps they would stay for ever.

use std::fmt;
use std::net::IpAddr;

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::net::route::{Route, TableId};
use crate::oci::annotations::Attachment;

/// The protocol of our rules and routes (`FRA_PROTOCOL`, `rtm_protocol`): a number that is unused in
/// linux/rtnetlink.h and iproute2's rt_protos. It takes the place of a mark; the ledger says which container
/// they belong to.
pub(crate) const PROTOCOL: u8 = 117;

/// A rule or route that outlives its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistent {
    /// Packets from an address use the routes of a table.
    Rule { from: IpAddr, table: TableId },
    /// A blackhole, unreachable or prohibit route.
    Route {
        route: Route,
        /// Its table, if not the main one.
        table: Option<TableId>,
    },
}

impl Persistent {
    /// Returns true if the kernel cannot tell the two apart when it deletes one.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Route { route, table }, Self::Route { route: like, table: same }) => {
                (route.to, table) == (like.to, same)
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Persistent {
    /// As `ip rule` and `ip route` show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { from, table } => write!(f, "from {from} lookup {table}"),
            Self::Route { route, table } => {
                write!(f, "{route}")?;
                table.map_or(Ok(()), |table| write!(f, " table {table}"))
            }
        }
    }
}

/// Returns true if the requested attachment will have persistent rules or routes.
pub(crate) fn is_wanted(request: &Attachment, network: &Network) -> bool {
    let mut routes = request.routes.iter().chain(&network.file.routes);
    request.table.or(network.file.table).is_some() || routes.any(|route| !route.is_unicast())
}

impl Record {
    /// Returns [`Kind::Taken`] if one of `others` has a persistent rule or route in the same namespace that
    /// the kernel cannot tell from one of this container.
    pub(crate) fn refuse_shared(&self, others: &[Self]) -> Result<()> {
        let same = |other: &&Self| self.holder.netns().is(other.holder.netns());
        let others: Vec<_> = others.iter().filter(same).filter(|o| o.container != self.container).collect();
        for own in self.attachments().iter().flat_map(Attached::lasting) {
            let has = |other: &&&Self| {
                other.attachments().iter().flat_map(Attached::lasting).any(|other| other.is_like(&own))
            };
            if let Some(other) = others.iter().find(has) {
                let text = format!(
                    "container {} has `{own}` in the same network namespace already",
                    other.container
                );
                return Err(Error::new(Kind::Taken, text).hint("one container of a pod is enough to have it"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(container: &str, inode: u64, route: &str, table: u32) -> Record {
        let text = format!(
            r#"{{"version": 1, "container": "{container}", "state": "attached",
                "holder": {{"pid": 7, "start_time": 8, "netns": {{"device": 4, "inode": {inode}}}}},
                "attachments": [{{"network": "lan", "driver": {{"kind": "macvlan", "mode": "bridge"}}, "parent": "eth0",
                 "parent_index": 2, "segment": 2, "ifname": "eth0", "addresses": ["10.0.0.9/24", "2001:db8::9/64"],
                 "routes": [{{"to": "10.8.0.0/16", "via": "10.0.0.1"}}, {route}],
                 "table": {{"id": {table}, "routes": [{{"to": "0.0.0.0/0", "via": "10.0.0.1"}}, {route}]}}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_lasts() {
        let record = record("web", 5, r#"{"to": "10.9.0.0/16", "type": "blackhole"}"#, 101);
        let persistent: Vec<_> = record.attachments()[0].lasting().map(|one| one.to_string()).collect();
        assert_eq!(
            persistent,
            [
                "blackhole 10.9.0.0/16",
                "blackhole 10.9.0.0/16 table 101",
                "from 10.0.0.9 lookup 101",
                "from 2001:db8::9 lookup 101"
            ]
        );
    }

    #[test]
    fn two_in_one_namespace() {
        let one = record("one", 5, r#"{"to": "10.9.0.0/16", "type": "blackhole"}"#, 101);
        let alike = record("two", 5, r#"{"to": "10.9.0.0/16", "type": "prohibit", "metric": 7}"#, 102);
        let error = alike.refuse_shared(std::slice::from_ref(&one)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "container one has `prohibit 10.9.0.0/16 metric 7` in the same network namespace already"
        );
        for other in [
            record("two", 6, r#"{"to": "10.9.0.0/16", "type": "blackhole"}"#, 101),
            record("two", 5, r#"{"to": "10.8.0.0/16", "type": "blackhole"}"#, 102),
            record("one", 5, r#"{"to": "10.9.0.0/16", "type": "blackhole"}"#, 101),
        ] {
            assert_eq!(other.refuse_shared(std::slice::from_ref(&one)), Ok(()));
        }
        assert!(
            record("two", 5, r#"{"to": "10.7.0.0/16", "type": "blackhole"}"#, 101)
                .refuse_shared(&[one])
                .is_err()
        );
    }
}
