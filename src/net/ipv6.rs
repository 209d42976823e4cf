//! What a link takes from IPv6 router advertisements: addresses and a default route.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::net::driver::Driver;
use crate::net::subnet::Subnet;
use crate::net::value::words;

/// The smallest MTU of a link with IPv6 (RFC 8200, 5).
pub(crate) const IPV6_MTU: u32 = 1280;

words! {
    /// The key `ipv6` of a network: the IPv6 of its links besides their leased addresses.
    Ipv6, "kind of IPv6", {
        /// No IPv6 at all.
        Off = "off",
        /// Addresses of the prefixes that routers advertise, as [`Slaac::Eui64`].
        Slaac = "slaac",
        /// The same as [`Slaac::Stable`].
        SlaacStable = "slaac-stable",
        /// The same as [`Slaac::Privacy`].
        SlaacPrivacy = "slaac-privacy",
    }
}

/// How a link makes addresses of advertised prefixes (RFC 4862).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Slaac {
    /// From its MAC address (RFC 4291, appendix A).
    Eui64,
    /// From a secret, so that they tell nothing about the link (RFC 7217).
    Stable,
    /// From a secret, with temporary ones of a day each, which outgoing connections prefer (RFC 8981).
    Privacy,
}

impl Ipv6 {
    /// How addresses are made; `None` if there are none.
    pub(crate) fn slaac(self) -> Option<Slaac> {
        match self {
            Self::Off => None,
            Self::Slaac => Some(Slaac::Eui64),
            Self::SlaacStable => Some(Slaac::Stable),
            Self::SlaacPrivacy => Some(Slaac::Privacy),
        }
    }

    /// Whether links of `driver` with addresses of `subnets` can have it.
    ///
    /// # Errors
    /// Says why they cannot.
    pub(crate) fn check(self, driver: Driver, subnets: &[Subnet]) -> Result<()> {
        let ipv6 = subnets.iter().map(Subnet::net).find(|net| net.addr().is_ipv6());
        let (why, hint) = match (self, ipv6) {
            (Self::Off, Some(net)) => {
                (format!("off, and subnet {net} is an IPv6 subnet"), "leave one of the two out")
            }
            (Self::Off, None) => return Ok(()),
            _ if driver.is_routed() => {
                (format!("{driver} receives no router advertisements"), "use ipvlan mode l2, or macvlan")
            }
            _ => return Ok(()),
        };
        Err(Error::input(format!("ipv6: {why}")).hint(hint))
    }
}

impl Slaac {
    /// Whether addresses are made from a secret.
    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Self::Stable | Self::Privacy)
    }
}

/// What a link takes from router advertisements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Advertised {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slaac: Option<Slaac>,
    /// The secret that its addresses are made of (RFC 7217, section 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ipv6Addr>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_route: bool,
    /// The metric of the default route, if not the kernel's 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// The keys of `net.ipv6.conf.LINK` with their values, for a link that is down: it then takes `advertised` from routers, with
/// which addresses are on the link if it has one `by_dhcp`, and nothing else. With `None` it has no IPv6 at all.
pub(crate) fn sysctls(advertised: Option<&Advertised>, by_dhcp: bool) -> Vec<(&'static str, String)> {
    let Some(advertised) = advertised else { return vec![("disable_ipv6", "1".to_owned())] };
    let Advertised { slaac, secret, default_route, metric } = *advertised;
    if slaac.is_none() && !default_route && !by_dhcp {
        return vec![("disable_ipv6", "0".to_owned()), ("accept_ra", "0".to_owned())];
    }
    let when = |is_so: bool, value: &str| is_so.then(|| value.to_owned());
    let all = [
        ("disable_ipv6", when(true, "0")),
        // 2: also where packets are forwarded.
        ("accept_ra", when(true, "2")),
        ("autoconf", when(slaac.is_none(), "0")),
        ("accept_ra_defrtr", when(!default_route, "0")),
        ("ra_defrtr_metric", metric.map(|metric| metric.to_string())),
        ("stable_secret", secret.map(|secret| secret.to_string())),
        ("use_tempaddr", when(slaac == Some(Slaac::Privacy), "2")),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, ipv6, slaac) in [
            ("off", Ipv6::Off, None),
            ("slaac", Ipv6::Slaac, Some(Slaac::Eui64)),
            ("slaac-stable", Ipv6::SlaacStable, Some(Slaac::Stable)),
            ("slaac-privacy", Ipv6::SlaacPrivacy, Some(Slaac::Privacy)),
        ] {
            assert_eq!((name.parse::<Ipv6>().unwrap(), ipv6.to_string()), (ipv6, name.to_owned()));
            assert_eq!(serde_json::to_value(ipv6).unwrap(), name);
            assert_eq!(ipv6.slaac(), slaac);
        }
        let error = "auto".parse::<Ipv6>().unwrap_err();
        assert_eq!(error.to_string(), "unknown kind of IPv6 \"auto\"");
    }

    #[test]
    fn what_is_set() {
        let secret = Some("2001:db8::1".parse().unwrap());
        let nothing = Advertised::default();
        for (advertised, expected) in [
            (None, "disable_ipv6=1"),
            (Some(nothing), "disable_ipv6=0 accept_ra=0"),
            (Some(Advertised { default_route: true, ..nothing }), "disable_ipv6=0 accept_ra=2 autoconf=0"),
            (
                Some(Advertised { slaac: Some(Slaac::Eui64), ..nothing }),
                "disable_ipv6=0 accept_ra=2 accept_ra_defrtr=0",
            ),
            (
                Some(Advertised {
                    slaac: Some(Slaac::Privacy),
                    secret,
                    default_route: true,
                    metric: Some(7),
                }),
                "disable_ipv6=0 accept_ra=2 ra_defrtr_metric=7 stable_secret=2001:db8::1 use_tempaddr=2",
            ),
        ] {
            let all = sysctls(advertised.as_ref(), false);
            let text: Vec<_> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(text.join(" "), expected);
        }
        let text: Vec<_> =
            sysctls(Some(&nothing), true).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(text.join(" "), "disable_ipv6=0 accept_ra=2 autoconf=0 accept_ra_defrtr=0");
    }
}
