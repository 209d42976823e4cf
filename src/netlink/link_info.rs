//! `IFLA_LINKINFO`: our drivers and their modes, written and read.

use neli::consts::rtnl::{Ifla, IflaInfo};
use neli::neli_enum;

use super::attr::{Attribute, Attributes, attribute, nested};
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::net::link::Link;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;

/// `IFLA_MACVLAN_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
enum IflaMacvlan {
    Mode = 1,
    MacaddrMode = 3,
    Macaddr = 4,
    MacaddrData = 5,
    BcQueueLen = 7,
    BcCutoff = 9,
}

/// `IFLA_IPVLAN_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
enum IflaIpvlan {
    Mode = 1,
    Flags = 2,
}

/// `IFLA_BOND_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
pub(super) enum IflaBond {
    ActiveSlave = 2,
}

/// The list of source MAC addresses replaces the one there is (linux/if_link.h).
const MACVLAN_MACADDR_SET: u32 = 3;

/// Returns `type DRIVER mode MODE …` of a link to make.
pub(super) fn encode(driver: Driver, bclim: Option<i32>, options: &LinkOptions) -> Attribute {
    let data = match driver {
        Driver::Macvlan { mode } => {
            let macs = options.source_macs.iter().map(|mac| attribute(IflaMacvlan::Macaddr, mac.0));
            let set = attribute(IflaMacvlan::MacaddrMode, MACVLAN_MACADDR_SET);
            let sources = [set, nested(IflaMacvlan::MacaddrData, macs)];
            let sources = sources.into_iter().filter(|_| !options.source_macs.is_empty());
            let data = [
                Some(attribute(IflaMacvlan::Mode, mode as u32)),
                bclim.map(|bclim| attribute(IflaMacvlan::BcCutoff, bclim)),
                options.bcqueuelen.map(|length| attribute(IflaMacvlan::BcQueueLen, length)),
            ];
            nested(IflaInfo::Data, data.into_iter().flatten().chain(sources))
        }
        Driver::Ipvlan { mode, flag } => {
            let mode = attribute(IflaIpvlan::Mode, mode as u16);
            nested(IflaInfo::Data, [mode, attribute(IflaIpvlan::Flags, flag as u16)])
        }
    };
    nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, driver.kind().to_string()), data])
}

/// Decodes the `IFLA_INFO_DATA` of a link of type `kind`: a link of which only that is known. `None` if it has not one of our
/// drivers and modes.
pub(super) fn decode(kind: &str, data: Attributes<'_>) -> Option<Link> {
    match kind.parse().ok()? {
        Kind::Macvlan => {
            let mode = MacvlanMode::of_number(data.number(IflaMacvlan::Mode)?)?;
            let macs = data.nested(IflaMacvlan::MacaddrData).iter();
            let macs = macs.filter_map(|(_, mac)| mac.try_into().ok()).map(MacAddr);
            Some(Link {
                driver: Some(Driver::Macvlan { mode }),
                bclim: data.array(IflaMacvlan::BcCutoff).map(i32::from_ne_bytes),
                tuning: LinkOptions {
                    bcqueuelen: data.number(IflaMacvlan::BcQueueLen),
                    source_macs: macs.collect(),
                    ..LinkOptions::default()
                },
                ..Link::default()
            })
        }
        Kind::Ipvlan => {
            let number = |kind: IflaIpvlan| data.array(kind).map(u16::from_ne_bytes).map(u32::from);
            let mode = IpvlanMode::of_number(number(IflaIpvlan::Mode)?)?;
            let flag = IpvlanFlag::of_number(number(IflaIpvlan::Flags)?)?;
            Some(Link { driver: Some(Driver::Ipvlan { mode, flag }), ..Link::default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::reply::parse_link;

    /// The driver and the limit for broadcasts of a link whose `IFLA_LINKINFO` is `info`.
    fn decoded(info: &[u8]) -> (Option<Driver>, Option<i32>) {
        let link = parse_link(&[&[0; 16], info].concat()).unwrap();
        (link.driver, link.bclim)
    }

    #[test]
    fn what_is_written_is_read() {
        let macvlan = MacvlanMode::ALL.map(|mode| (Driver::Macvlan { mode }, Some(-1)));
        let ipvlan = IpvlanMode::ALL
            .into_iter()
            .flat_map(|mode| IpvlanFlag::ALL.map(|flag| (Driver::Ipvlan { mode, flag }, None)));
        for (driver, bclim) in macvlan.into_iter().chain(ipvlan) {
            let info = encode(driver, bclim, &LinkOptions::default()).unwrap();
            assert_eq!(decoded(&info), (Some(driver), bclim), "{driver}");
        }
    }

    #[test]
    fn sources_and_queues() {
        let macs = ["02:00:00:00:00:01", "02:00:00:00:00:02"].map(|mac| mac.parse().unwrap());
        let tuning =
            LinkOptions { bcqueuelen: Some(9), source_macs: macs.to_vec(), ..LinkOptions::default() };
        let info = encode(Driver::Macvlan { mode: MacvlanMode::Source }, None, &tuning).unwrap();
        let link = parse_link(&[&[0; 16], &info[..]].concat()).unwrap();
        assert_eq!(link.tuning, tuning);
    }

    #[test]
    fn other_links() {
        // IFLA_LINKINFO is 18, IFLA_INFO_KIND 1, IFLA_INFO_DATA 2.
        let info = |kind: &[u8; 8], data: &[u8]| {
            let length = |header: usize, bytes: &[u8]| (header + bytes.len()) as u8;
            let data = [&[length(4, data), 0, 2, 0], data].concat();
            [&[length(16, &data), 0, 18, 0, 12, 0, 1, 0][..], kind, &data].concat()
        };
        let mode = |number: u8| [8, 0, 1, 0, number, 0, 0, 0];
        let private = Driver::Macvlan { mode: MacvlanMode::Private };
        assert_eq!(decoded(&info(b"macvlan\0", &mode(1))), (Some(private), None));
        for other in [
            info(b"macvlan\0", &mode(3)),
            info(b"macvlan\0", &[6, 0, 1, 0, 1, 0, 0, 0]),
            info(b"macvlan\0", &[]),
            info(b"macvtap\0", &mode(1)),
            info(b"ipvlan\0\0", &[6, 0, 1, 0, 0, 0, 0, 0]),
            vec![],
        ] {
            assert_eq!(decoded(&other), (None, None), "{other:?}");
        }
    }
}
