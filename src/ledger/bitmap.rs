//! Allocation bitmaps of crowded pools: a bit for each address, set if it is leased. So a free address is
//! found without trying all.
//!
//! A bitmap is made when many addresses in a row were leased, and kept from then on. It is only a hint; the
//! leases decide. If it has no free address left, it is made anew from the leases.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Locked, Store, entries, remove};
use crate::error::Result;
use crate::fs::file::{self, Trust};
use crate::net::lease_key::LeaseKey;
use crate::net::subnet::{Subnet, number};

/// The size of the largest pool that gets a bitmap.
const MOST: u128 = 65_536;

/// The leased addresses of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Bitmap {
    first: IpAddr,
    count: u128,
    bits: Vec<u8>,
    /// True if it was just made from the leases.
    pub(crate) fresh: bool,
}

impl Bitmap {
    /// The map of the pool of `subnet`, where nothing is held. `None` for a pool that is too large for one.
    pub(crate) fn new(subnet: &Subnet) -> Option<Self> {
        let (first, last) = subnet.pool();
        let count = last - first + 1;
        let bits = || vec![0; count.div_ceil(8) as usize];
        (count <= MOST).then(|| Self { first: subnet.address(first), count, bits: bits(), fresh: true })
    }

    /// Returns the byte and bit of `address`.
    fn place(&self, address: IpAddr) -> Option<(usize, u8)> {
        let is_same_family = address.is_ipv4() == self.first.is_ipv4();
        let at = number(address)
            .checked_sub(number(self.first))
            .filter(|&at| is_same_family && at < self.count)?;
        Some(((at / 8) as usize, 1 << (at % 8)))
    }

    pub(crate) fn is_held(&self, address: IpAddr) -> bool {
        self.place(address).is_some_and(|(byte, bit)| self.bits.get(byte).is_some_and(|byte| byte & bit != 0))
    }

    pub(crate) fn set(&mut self, address: IpAddr, held: bool) {
        let Some((byte, bit)) = self.place(address) else { return };
        if let Some(byte) = self.bits.get_mut(byte) {
            *byte = if held { *byte | bit } else { *byte & !bit };
        }
    }

    fn write(&self, path: &Path) {
        // The folder of the segment's is made with the file, the one above here.
        let above = path.ancestors().nth(2).unwrap_or(path);
        let written = file::make_subfolder(above, 0o700).and_then(|()| file::replace(path, &self.bits));
        // One that is older would mislead.
        if let Err(error) = written.or_else(|_| remove(path)) {
            log::debug!("{error}");
        }
    }
}

impl Store {
    fn maps_dir(&self, segment: u32) -> PathBuf {
        self.state_dir.join("maps").join(segment.to_string())
    }

    fn map_path(&self, segment: u32, map: &Bitmap) -> PathBuf {
        self.maps_dir(segment).join(format!("{}_{}", map.first, map.count))
    }

    /// The map of the pool of `subnet`; with `fresh`, or where there is none, made from the leases. `None` for a pool
    /// that is too large for one.
    ///
    /// # Errors
    /// When the leases cannot be listed.
    pub(crate) fn map(&self, segment: u32, subnet: &Subnet, fresh: bool) -> Result<Option<Bitmap>> {
        let Some(mut map) = Bitmap::new(subnet) else { return Ok(None) };
        let read =
            || file::read(&self.map_path(segment, &map), map.bits.len() as u64, Trust::Own).ok().flatten();
        let known = if fresh { None } else { read() };
        match known.filter(|bits| bits.len() == map.bits.len()) {
            Some(bits) => map = Bitmap { bits, fresh: false, ..map },
            None => {
                let held = self.held(segment)?.into_iter().filter_map(LeaseKey::address);
                held.for_each(|address| map.set(address, true));
            }
        }
        Ok(Some(map))
    }
}

impl Locked<'_> {
    /// Writes a map: only a hint, it may fail.
    pub(crate) fn write_map(&self, segment: u32, map: &Bitmap) {
        map.write(&self.store.map_path(segment, map));
    }

    /// Notes in the maps of `segment` that nobody holds `addresses` any more.
    pub(crate) fn free(&self, segment: u32, addresses: &[IpAddr]) {
        let paths = entries(&self.store.maps_dir(segment)).unwrap_or_default();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()?.split_once('_'));
            let pool = name.and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
            let Some((first, count)) = pool else { continue };
            let read = file::read(&path, MOST as u64 / 8, Trust::Own).ok().flatten();
            let mut map = Bitmap { first, count, bits: read.unwrap_or_default(), fresh: false };
            let before = map.bits.clone();
            addresses.iter().for_each(|address| map.set(*address, false));
            if map.bits != before {
                map.write(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new("/none".into(), folder.path().to_owned(), "/none".into(), "/none".into());
        let subnet = |range: &str| {
            let range = Some(range.parse().unwrap());
            Subnet::new("10.0.0.0/8".parse().unwrap(), None, false, range, std::collections::BTreeMap::new())
                .unwrap()
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (small, large) = (subnet("10.0.0.5-10.0.0.21"), subnet("10.0.0.0-10.1.0.0"));
        assert!(store.map(2, &large, false).unwrap().is_none(), "one more than a map has");
        let mut map = store.map(2, &small, false).unwrap().unwrap();
        assert!(map.fresh && !map.is_held(address("10.0.0.5")));
        for (text, held) in
            [("10.0.0.4", false), ("10.0.0.5", true), ("10.0.0.21", true), ("10.0.0.22", false)]
        {
            map.set(address(text), true);
            assert_eq!(map.is_held(address(text)), held, "{text}");
        }
        let locked = store.lock(std::time::Duration::ZERO).unwrap();
        locked.write_map(2, &map);
        locked.free(2, &[address("10.0.0.21"), address("::1")]);
        let read = store.map(2, &small, false).unwrap().unwrap();
        assert!(!read.fresh && read.is_held(address("10.0.0.5")) && !read.is_held(address("10.0.0.21")));
        assert!(!store.map(2, &small, true).unwrap().unwrap().is_held(address("10.0.0.5")));
    }
}
