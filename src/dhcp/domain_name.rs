//! Names of the DNS as DHCP has them: as text, and in wire form (RFC 1035, 3.1), with compression (4.1.4).

use crate::net::value::text;

/// The most names that are taken of a list: resolvers look at six, and each could be 255 bytes for two.
const MOST: usize = 32;

text! {
    /// A domain name without its last dot: up to 253 letters, digits and `-_` in labels of 1 to 63, none of which begins or
    /// ends with a hyphen. So it can be written into resolv.conf.
    DomainName, "domain name {:?} is not usable", is_domain_name,
    "use labels of 1 to 63 letters, digits and _ -, with dots between"
}

/// The client's full name (RFC 4702, RFC 4704).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fqdn {
    pub name: DomainName,
    /// Whether the server is asked to write the name's address into the DNS.
    pub server_updates: bool,
}

impl Fqdn {
    /// The flag S.
    pub(super) const SERVER_UPDATES: u8 = 1;

    pub(super) fn flags(&self) -> u8 {
        if self.server_updates { Self::SERVER_UPDATES } else { 0 }
    }
}

fn is_domain_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

impl DomainName {
    /// The name that `bytes` spell: with a last dot or without, perhaps with NULs behind it (RFC 2132, section 2).
    pub(crate) fn of_text(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        text.strip_suffix('.').unwrap_or(text).parse().ok()
    }

    /// The name in wire form.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let label = |label: &str| [&[label.len() as u8][..], label.as_bytes()].concat();
        self.as_str().split('.').map(label).chain([vec![0]]).collect::<Vec<_>>().concat()
    }
}

/// The names in `bytes`, one behind the other. Names that are none of hosts or domains are left out.
///
/// Returns `None` if the bytes are no names.
pub(crate) fn read_list(bytes: &[u8]) -> Option<Vec<DomainName>> {
    let (mut names, mut at, mut count) = (Vec::new(), 0, 0);
    while at < bytes.len() && count < MOST {
        let (name, next) = read(bytes, at)?;
        names.extend(name.parse());
        (at, count) = (next, count + 1);
    }
    Some(names)
}

/// The name at `start` as text, and where the next one begins. A pointer leads further back than the labels that it ends, so
/// reading comes to an end.
fn read(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut begin, mut next) = (start, start, None);
    let mut labels = Vec::new();
    let mut length = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some((labels.join("."), next.unwrap_or(at + 1))),
            size @ 1..=63 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(size))?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + label.len();
                length += 1 + label.len();
            }
            high @ 0xc0.. => {
                let target = usize::from(u16::from_be_bytes([high & 0x3f, *bytes.get(at + 1)?]));
                next = next.or(Some(at + 2));
                (at, begin) = (target, Some(target).filter(|&target| target < begin)?);
            }
            _ => return None,
        }
        if length > 254 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(bytes: &[u8]) -> Option<Vec<String>> {
        read_list(bytes).map(|names| names.iter().map(DomainName::to_string).collect())
    }

    #[test]
    fn usable_names() {
        for name in ["a", "web-1", "_tcp.example.com", "xn--bcher-kva.example", &["a"; 127].join(".")] {
            assert!(name.parse::<DomainName>().is_ok(), "{name}");
        }
        let (long_label, long) = ("a".repeat(64), ["a"; 128].join("."));
        let wrong = ["", ".", "a.", ".a", "a..b", "-a", "a-.b", "a b", "a\nnameserver 6.6.6.6", "ä"];
        for name in wrong.into_iter().chain([&long_label[..], &long]) {
            assert!(name.parse::<DomainName>().is_err(), "{name:?}");
        }
        for text in ["example.com", "example.com.", "example.com\0\0"] {
            assert_eq!(DomainName::of_text(text.as_bytes()).unwrap().as_str(), "example.com");
        }
        assert_eq!(DomainName::of_text(b"example.com\n"), None);
        assert_eq!(DomainName::of_text(b"\xff"), None);
    }

    /// The example of RFC 3397, section 2.
    #[test]
    fn compressed_names() {
        let bytes = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(names(bytes).unwrap(), ["eng.apple.com", "marketing.apple.com"]);
        assert_eq!(names(b"\x01a\x00\xc0\x00\xc0\x03").unwrap(), ["a", "a", "a"], "a pointer to a pointer");
        assert_eq!(names(b"\x01a\x00\x03b c\x00\x00\x01d\x00").unwrap(), ["a", "d"], "no names of hosts");
        assert_eq!(names(b"").unwrap(), [""; 0]);
    }

    #[test]
    fn what_are_no_names() {
        for bytes in [
            &b"\x03en"[..],
            b"\x01a",
            b"\xc0",
            b"\x40a\x00",
            // To itself, forward, and round about.
            b"\xc0\x00",
            b"\xc0\x02\x01a\x00",
            b"\x01a\xc0\x00",
            b"\x01a\xc0\x02",
        ] {
            assert_eq!(names(bytes), None, "{bytes:?}");
        }
        // A name that grows longer than any.
        let label = [&[63][..], &[b'a'; 63]].concat();
        assert_eq!(names(&[label.repeat(4), vec![0]].concat()), None);
    }

    #[test]
    fn the_first_names_of_many() {
        let many = [&b"\x01a\x00"[..], &b"\xc0\x00".repeat(30_000)].concat();
        assert_eq!(names(&many).unwrap().len(), MOST);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read_list(&bytes);
        }

        #[test]
        fn what_is_written_is_read(parts in proptest::collection::vec("[a-z0-9_]{1,20}(\\.[a-z0-9]{1,20}){0,4}", 0..8)) {
            let wire: Vec<u8> = parts.iter().flat_map(|name| name.parse::<DomainName>().unwrap().to_wire()).collect();
            prop_assert_eq!(names(&wire).unwrap(), parts);
        }
    }
}
