//! The Internet checksum (RFC 1071).

/// The checksum of `bytes`: 0 if they hold theirs already.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let word = |(at, &byte): (usize, &u8)| u64::from(byte) << if at % 2 == 0 { 8 } else { 0 };
    let mut sum: u64 = bytes.iter().enumerate().map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
        assert_eq!(checksum(&[&bytes[..], &(!0xddf2_u16).to_be_bytes()].concat()), 0);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0x12]), !0x1200, "an odd byte is the first of its word");
    }
}
