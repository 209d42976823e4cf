//! Hashes that stay what they are: the same on every machine and in every version.

use siphasher::sip::SipHasher24;

/// Fowler, Noll and Vo's hash 1a of 64 bits.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// SipHash-2-4 of 64 bits (Aumasson and Bernstein, 2012): who sees the hash cannot tell the key.
pub(crate) fn siphash(key: [u8; 16], text: &str) -> u64 {
    SipHasher24::new_with_key(&key).hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the draft (draft-eastlake-fnv, appendix C).
    #[test]
    fn vectors() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    /// Appendix A of the paper, and the first of the reference implementation's.
    #[test]
    fn siphash_vectors() {
        let key = std::array::from_fn(|index| index as u8);
        let text: String = (0..15_u8).map(char::from).collect();
        assert_eq!(siphash(key, &text), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(key, ""), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(key, &text[..8]), 0x93f5_f579_9a93_2462);
    }
}
