//! Our drivers and their modes in the kernel's numbers: what `IFLA_LINKINFO` holds, to make a link and to know one.

use neli::consts::rtnl::{Ifla, IflaInfo, RtaType};
use neli::neli_enum;
use neli::rtnl::Rtattr;
use neli::types::Buffer;

use super::attr::{attribute, attributes, nested, number, signed_number, value};
use crate::error::Result;
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
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

impl RtaType for IflaMacvlan {}

/// `IFLA_IPVLAN_*` of linux/if_link.h, which neli lacks.
#[neli_enum(serialized_type = "u16")]
enum IflaIpvlan {
    Mode = 1,
    Flags = 2,
}

impl RtaType for IflaIpvlan {}

/// The list that comes with it takes the place of the one there is.
const MACVLAN_MACADDR_SET: u32 = 3;

/// `MACVLAN_MODE_*`
fn macvlan_mode(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
        MacvlanMode::Source => 16,
    }
}

/// `IPVLAN_MODE_*`
fn ipvlan_mode(mode: IpvlanMode) -> u16 {
    match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    }
}

/// `IPVLAN_F_*`
fn ipvlan_flag(flag: IpvlanFlag) -> u16 {
    match flag {
        IpvlanFlag::Bridge => 0,
        IpvlanFlag::Private => 1,
        IpvlanFlag::Vepa => 2,
    }
}

/// `type DRIVER mode MODE …` of a link to make.
pub(crate) fn write(
    driver: Driver,
    bclim: Option<i32>,
    tuning: &LinkOptions,
) -> Result<Rtattr<Ifla, Buffer>> {
    let data = match driver {
        Driver::Macvlan { mode } => {
            let mut data = vec![attribute(IflaMacvlan::Mode, macvlan_mode(mode))?];
            if let Some(bclim) = bclim {
                data.push(attribute(IflaMacvlan::BcCutoff, bclim)?);
            }
            if let Some(length) = tuning.bcqueuelen {
                data.push(attribute(IflaMacvlan::BcQueueLen, length)?);
            }
            if !tuning.source_macs.is_empty() {
                let mac = |mac: &MacAddr| attribute(IflaMacvlan::Macaddr, Buffer::from(&mac.bytes()[..]));
                let macs = tuning.source_macs.iter().map(mac).collect::<Result<Vec<_>>>()?;
                data.push(attribute(IflaMacvlan::MacaddrMode, MACVLAN_MACADDR_SET)?);
                data.push(nested(IflaMacvlan::MacaddrData, macs)?);
            }
            nested(IflaInfo::Data, data)?
        }
        Driver::Ipvlan { mode, flag } => {
            let mode = attribute(IflaIpvlan::Mode, ipvlan_mode(mode))?;
            nested(IflaInfo::Data, [mode, attribute(IflaIpvlan::Flags, ipvlan_flag(flag))?])?
        }
    };
    let kind = driver.kind().to_string();
    nested(Ifla::Linkinfo, [attribute(IflaInfo::Kind, kind.as_str())?, data])
}

/// What `IFLA_LINKINFO` tells of a link of ours.
pub(crate) struct LinkInfo {
    /// The driver with its mode.
    pub(crate) driver: Driver,
    /// The limit for unqueued broadcasts.
    pub(crate) bclim: Option<i32>,
    /// The length of the queue of broadcasts.
    pub(crate) bcqueuelen: Option<u32>,
    /// Whose frames come in.
    pub(crate) source_macs: Vec<MacAddr>,
}

/// What the `IFLA_INFO_DATA` of a link of type `kind` tells; nothing if it is none of ours.
pub(crate) fn read(kind: &str, data: &[u8]) -> Option<LinkInfo> {
    match kind.parse().ok()? {
        Kind::Macvlan => {
            let number = |attribute: IflaMacvlan| value(data, attribute).and_then(number);
            let mode = number(IflaMacvlan::Mode)?;
            let macs = value(data, IflaMacvlan::MacaddrData).unwrap_or_default();
            let macs = attributes(macs).filter_map(|(_, mac)| mac.try_into().ok());
            Some(LinkInfo {
                driver: Driver::Macvlan {
                    mode: MacvlanMode::ALL.into_iter().find(|&found| macvlan_mode(found) == mode)?,
                },
                bclim: value(data, IflaMacvlan::BcCutoff).and_then(signed_number),
                bcqueuelen: number(IflaMacvlan::BcQueueLen),
                source_macs: macs.map(MacAddr::from_bytes).collect(),
            })
        }
        Kind::Ipvlan => {
            let number =
                |attribute: IflaIpvlan| value(data, attribute)?.try_into().ok().map(u16::from_ne_bytes);
            let (mode, flag) = (number(IflaIpvlan::Mode)?, number(IflaIpvlan::Flags)?);
            let driver = Driver::Ipvlan {
                mode: IpvlanMode::ALL.into_iter().find(|&found| ipvlan_mode(found) == mode)?,
                flag: IpvlanFlag::ALL.into_iter().find(|&found| ipvlan_flag(found) == flag)?,
            };
            Some(LinkInfo { driver, bclim: None, bcqueuelen: None, source_macs: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use neli::ToBytes;

    use super::*;
    use crate::netlink::reply::parse_link;

    /// What is told of a link whose `IFLA_LINKINFO` is `info`.
    fn told(info: &[u8]) -> (Option<Driver>, Option<i32>) {
        let link = parse_link(&[&[0; 16], info].concat()).unwrap().unwrap();
        (link.driver, link.bclim)
    }

    #[test]
    fn what_is_written_is_read() {
        let macvlan = MacvlanMode::ALL.map(|mode| (Driver::Macvlan { mode }, Some(-1)));
        let ipvlan = IpvlanMode::ALL
            .into_iter()
            .flat_map(|mode| IpvlanFlag::ALL.map(|flag| (Driver::Ipvlan { mode, flag }, None)));
        for (driver, bclim) in macvlan.into_iter().chain(ipvlan) {
            let mut bytes = Cursor::new(Vec::new());
            write(driver, bclim, &LinkOptions::default()).unwrap().to_bytes(&mut bytes).unwrap();
            assert_eq!(told(&bytes.into_inner()), (Some(driver), bclim), "{driver}");
        }
    }

    #[test]
    fn sources_and_queues() {
        let macs = ["02:00:00:00:00:01", "02:00:00:00:00:02"].map(|mac| mac.parse().unwrap());
        let tuning =
            LinkOptions { bcqueuelen: Some(9), source_macs: macs.to_vec(), ..LinkOptions::default() };
        let mut bytes = Cursor::new(Vec::new());
        let driver = Driver::Macvlan { mode: MacvlanMode::Source };
        write(driver, None, &tuning).unwrap().to_bytes(&mut bytes).unwrap();
        let link = parse_link(&[&[0; 16], &bytes.into_inner()[..]].concat()).unwrap().unwrap();
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
        assert_eq!(told(&info(b"macvlan\0", &mode(1))), (Some(private), None));
        for other in [
            info(b"macvlan\0", &mode(3)),
            info(b"macvlan\0", &[6, 0, 1, 0, 1, 0, 0, 0]),
            info(b"macvlan\0", &[]),
            info(b"macvtap\0", &mode(1)),
            info(b"ipvlan\0\0", &[6, 0, 1, 0, 0, 0, 0, 0]),
            vec![],
        ] {
            assert_eq!(told(&other), (None, None), "{other:?}");
        }
    }
}
