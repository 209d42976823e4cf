//! Routes of a container, and how they are written.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::net::value::{is_default, number, words};

/// A route of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The destination; `0.0.0.0/0` or `::/0` for a default route.
    pub to: IpNet,
    /// The next hop; none if the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The metric; without it the kernel's: 0, and 1024 for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    #[serde(default, rename = "type", skip_serializing_if = "is_default")]
    pub kind: RouteType,
    /// Whether the next hop is on the link, though no subnet of the link has it (`RTNH_F_ONLINK`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub onlink: bool,
}

words! {
    /// What happens to the packets that take a route (`rtm_type`).
    #[derive(Default)]
    RouteType, "route type", {
        /// They are forwarded (`RTN_UNICAST`).
        #[default]
        Unicast(1) = "unicast",
        /// They are dropped silently (`RTN_BLACKHOLE`).
        Blackhole(6) = "blackhole",
        /// The sender gets an ICMP error: host unreachable (`RTN_UNREACHABLE`).
        Unreachable(7) = "unreachable",
        /// The sender gets an ICMP error: administratively prohibited (`RTN_PROHIBIT`).
        Prohibit(8) = "prohibit",
    }
}

impl Route {
    /// The route to `to` by the next hop `via`, or on the link.
    pub(crate) fn new(to: IpNet, via: Option<IpAddr>) -> Self {
        Self { to, via, metric: None, kind: RouteType::Unicast, onlink: false }
    }

    /// Whether packets are forwarded. Any other route belongs to no link, and stays when a link is deleted.
    pub(crate) fn is_unicast(&self) -> bool {
        self.kind == RouteType::Unicast
    }

    pub(crate) fn is_default(&self) -> bool {
        self.to.prefix_len() == 0
    }

    /// Reads `DESTINATION SEPARATOR GATEWAY`, or `blackhole`, `unreachable` or `prohibit` as gateway, then `onlink` and the
    /// metric in any order.
    pub(crate) fn parse(text: &str, separator: char) -> Option<Self> {
        let mut words = text.split(separator);
        let to = words.next()?.parse().ok()?;
        let way = words.next()?;
        let mut route = Self::new(to, None);
        match way.parse() {
            Ok(RouteType::Unicast) => return None,
            Ok(kind) => route.kind = kind,
            Err(_) => route.via = Some(way.parse().ok()?),
        }
        for word in words {
            match word.parse() {
                Ok(metric) if route.metric.is_none() => route.metric = Some(metric),
                _ if word == "onlink" && !route.onlink => route.onlink = true,
                _ => return None,
            }
        }
        Some(route)
    }

    /// Reads the short form of annotations, whose separator is `@`: commas and white space separate options there.
    ///
    /// # Errors
    /// When it is not a route.
    pub(crate) fn short(text: &str) -> Result<Self> {
        let hint = "write DESTINATION@GATEWAY or DESTINATION@blackhole, then @METRIC and @onlink if need be";
        Self::parse(text, '@').ok_or_else(|| Error::input(format!("{text:?} is not a route")).hint(hint))
    }

    /// Whether its parts agree with each other, and whether `reaches` holds for its next hop, unless that is on the link.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn check(&self, reaches: impl Fn(IpAddr) -> bool) -> Result<()> {
        let to = self.to;
        let why = match self.via {
            _ if to != to.trunc() => format!("has host bits set: write {}", to.trunc()),
            Some(via) if !self.is_unicast() => format!("is {} and leads to {via}", self.kind),
            None if self.onlink => "is onlink and has no next hop".to_owned(),
            None if !self.is_unicast() => return Ok(()),
            _ if self.is_default() => "is a default route: give the subnet a gateway instead".to_owned(),
            None => "has no next hop: write DESTINATION,GATEWAY".to_owned(),
            Some(via) if via.is_ipv4() != to.addr().is_ipv4() => {
                format!("leads to {via}, of the other family")
            }
            Some(via) if via.is_unspecified() || via.is_multicast() || via.is_loopback() => {
                format!("leads to {via}, which cannot be a router")
            }
            Some(via) if !self.onlink && !reaches(via) => {
                format!("leads to {via}, which is in none of the subnets")
            }
            Some(_) => return Ok(()),
        };
        Err(Error::input(format!("route to {to} {why}")))
    }
}

impl fmt::Display for Route {
    /// As `ip route` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_unicast() {
            write!(f, "{} ", self.kind)?;
        }
        let to = self.to.to_string();
        f.write_str(if self.is_default() { "default" } else { &to })?;
        self.via.map_or(Ok(()), |via| write!(f, " via {via}"))?;
        self.metric.map_or(Ok(()), |metric| write!(f, " metric {metric}"))?;
        f.write_str(if self.onlink { " onlink" } else { "" })
    }
}

number! {
    /// The number of a routing table that is not the kernel's own: neither 0 nor default, main and local (253 to 255).
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "u32", into = "u32")]
    TableId(u32), |id| !matches!(id, 0 | 253..=255), "usable routing table",
    "use a number, best 1 to 252; 253 to 255 are the kernel's own"
}

/// The routes for packets from the addresses of one link (source routing), so that a reply leaves by the link on which the
/// request came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub id: TableId,
    pub routes: Vec<Route>,
}

/// The families that have a default route in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DefaultRoutes {
    pub v4: bool,
    pub v6: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_forms() {
        for (text, shown) in [
            ("10.9.0.0/16@10.0.0.1", "10.9.0.0/16 via 10.0.0.1"),
            ("2001:db8:9::/48@2001:db8::9@50", "2001:db8:9::/48 via 2001:db8::9 metric 50"),
            ("10.9.0.0/16@198.51.100.1@onlink@7", "10.9.0.0/16 via 198.51.100.1 metric 7 onlink"),
            ("10.9.0.0/16@198.51.100.1@7@onlink", "10.9.0.0/16 via 198.51.100.1 metric 7 onlink"),
            ("10.9.0.0/16@blackhole", "blackhole 10.9.0.0/16"),
            ("0.0.0.0/0@unreachable@4000", "unreachable default metric 4000"),
            ("::/0@prohibit", "prohibit default"),
        ] {
            assert_eq!(Route::parse(text, '@').unwrap().to_string(), shown);
            assert_eq!(Route::parse(&text.replace('@', ","), ',').unwrap().to_string(), shown);
        }
        for text in [
            "",
            "@",
            "10.9.0.0/16",
            "10.9.0.0/16@",
            "10.9.0.0/16@unicast",
            "10.9.0.0@10.0.0.1",
            "x@10.0.0.1",
            "10.9.0.0/16@10.0.0.1@",
            "10.9.0.0/16@10.0.0.1@1@2",
            "10.9.0.0/16@10.0.0.1@onlink@onlink",
            "10.9.0.0/16@10.0.0.1@-1",
            "10.9.0.0/16@10.0.0.1/24",
        ] {
            assert_eq!(Route::parse(text, '@'), None, "{text}");
        }
    }

    #[test]
    fn parts_that_disagree() {
        let check = |json: &str| {
            let route: Route = serde_json::from_str(json).unwrap();
            route.check(|via| via.to_string() == "10.0.0.1").map_err(|error| error.to_string())
        };
        for json in [
            r#"{"to": "10.9.0.0/16", "via": "10.0.0.1"}"#,
            r#"{"to": "10.9.0.0/16", "via": "10.5.5.5", "onlink": true}"#,
            r#"{"to": "10.9.0.0/16", "type": "blackhole"}"#,
            r#"{"to": "0.0.0.0/0", "type": "unreachable", "metric": 9}"#,
        ] {
            assert_eq!(check(json), Ok(()), "{json}");
        }
        for (json, why) in [
            (r#"{"to": "10.9.0.1/16", "type": "blackhole"}"#, "has host bits set: write 10.9.0.0/16"),
            (
                r#"{"to": "10.9.0.0/16", "via": "10.0.0.2"}"#,
                "leads to 10.0.0.2, which is in none of the subnets",
            ),
            (r#"{"to": "10.9.0.0/16", "via": "::1"}"#, "leads to ::1, of the other family"),
            (
                r#"{"to": "10.9.0.0/16", "via": "0.0.0.0", "onlink": true}"#,
                "leads to 0.0.0.0, which cannot be a router",
            ),
            (r#"{"to": "10.9.0.0/16"}"#, "has no next hop: write DESTINATION,GATEWAY"),
            (r#"{"to": "10.9.0.0/16", "onlink": true}"#, "is onlink and has no next hop"),
            (
                r#"{"to": "10.9.0.0/16", "via": "10.0.0.1", "type": "prohibit"}"#,
                "is prohibit and leads to 10.0.0.1",
            ),
            (
                r#"{"to": "0.0.0.0/0", "via": "10.0.0.1"}"#,
                "is a default route: give the subnet a gateway instead",
            ),
        ] {
            let to = json.split('"').nth(3).unwrap();
            assert_eq!(check(json), Err(format!("route to {to} {why}")), "{json}");
        }
    }

    #[test]
    fn tables() {
        for id in ["1", "252", "256", "4294967295"] {
            assert_eq!(id.parse::<TableId>().unwrap().to_string(), id);
        }
        for id in ["", "0", "253", "254", "255", "4294967296", "main", "-1"] {
            assert!(id.parse::<TableId>().is_err(), "{id}");
        }
    }
}
