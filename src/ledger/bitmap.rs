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
    path: PathBuf,
    first: IpAddr,
    count: u128,
    bits: Vec<u8>,
    /// True if it was just made from the leases.
    pub(crate) fresh: bool,
}

impl Bitmap {
    /// Returns the bitmap of the pool of `subnet`. Makes it from the leases if it is missing or `fresh` is
    /// true. Returns `None` for a pool that is too large.
    pub(crate) fn open(store: &Store, segment: u32, subnet: &Subnet, fresh: bool) -> Result<Option<Self>> {
        let (first, last) = subnet.pool();
        let count = last - first + 1;
        if count > MOST {
            return Ok(None);
        }
        let first = subnet.address(first);
        let path = store.maps_dir(segment).join(format!("{first}_{count}"));
        let length = count.div_ceil(8);
        let known = if fresh { None } else { file::read(&path, length as u64, Trust::Own).ok().flatten() };
        let mut map = Self { path, first, count, bits: known.unwrap_or_default(), fresh: false };
        if map.bits.len() as u128 != length {
            map.bits = vec![0; length as usize];
            map.fresh = true;
            store
                .held(segment)?
                .into_iter()
                .filter_map(LeaseKey::address)
                .for_each(|address| map.set(address, true));
        }
        Ok(Some(map))
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

    pub(crate) fn write(&self) {
        // `replace` makes the folder of the segment, but not the one above it.
        let above = self.path.parent().and_then(Path::parent);
        let written = above.map_or(Ok(()), |above| file::make_subfolder(above, 0o700));
        let written = written.and_then(|()| file::replace(&self.path, &self.bits));
        // An outdated bitmap would be wrong, so it is removed.
        if let Err(error) = written.or_else(|_| remove(&self.path)) {
            log::debug!("{error}");
        }
    }
}

impl Store {
    fn maps_dir(&self, segment: u32) -> PathBuf {
        self.state_dir.join("maps").join(segment.to_string())
    }
}

impl Locked<'_> {
    /// Marks `addresses` as free in the bitmaps of `segment`.
    pub(crate) fn free(&self, segment: u32, addresses: &[IpAddr]) {
        let paths = entries(&self.store.maps_dir(segment)).unwrap_or_default();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()?.split_once('_'));
            let pool = name.and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
            let Some((first, count)) = pool else { continue };
            let read = file::read(&path, MOST as u64 / 8, Trust::Own).ok().flatten();
            let mut map = Bitmap { path, first, count, bits: read.unwrap_or_default(), fresh: false };
            let before = map.bits.clone();
            addresses.iter().for_each(|address| map.set(*address, false));
            if map.bits != before {
                map.write();
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
            Subnet::new("10.0.0.0/8".parse().unwrap(), None, range, std::collections::BTreeMap::new())
                .unwrap()
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (small, large) = (subnet("10.0.0.5-10.0.0.21"), subnet("10.0.0.0-10.1.0.0"));
        assert!(Bitmap::open(&store, 2, &large, false).unwrap().is_none(), "one more than a map has");
        let mut map = Bitmap::open(&store, 2, &small, false).unwrap().unwrap();
        assert!(map.fresh && !map.is_held(address("10.0.0.5")));
        for (text, held) in
            [("10.0.0.4", false), ("10.0.0.5", true), ("10.0.0.21", true), ("10.0.0.22", false)]
        {
            map.set(address(text), true);
            assert_eq!(map.is_held(address(text)), held, "{text}");
        }
        map.write();
        let locked = store.lock(std::time::Duration::ZERO).unwrap();
        locked.free(2, &[address("10.0.0.21"), address("::1")]);
        let read = Bitmap::open(&store, 2, &small, false).unwrap().unwrap();
        assert!(!read.fresh && read.is_held(address("10.0.0.5")) && !read.is_held(address("10.0.0.21")));
        assert!(!Bitmap::open(&store, 2, &small, true).unwrap().unwrap().is_held(address("10.0.0.5")));
    }
}
