//! Hashes that stay what they are: the same on every machine and in every version.

/// Fowler, Noll and Vo's hash 1a of 64 bits.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012): who sees the hash cannot tell the key.
pub(crate) fn siphash(key: [u8; 16], text: &str) -> u64 {
    let key = u128::from_le_bytes(key);
    let (low, high) = (key as u64, (key >> 64) as u64);
    let mut state = Sip {
        a: low ^ 0x736f_6d65_7073_6575,
        b: high ^ 0x646f_7261_6e64_6f6d,
        c: low ^ 0x6c79_6765_6e65_7261,
        d: high ^ 0x7465_6462_7974_6573,
    };
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word: u64, &byte| word << 8 | u64::from(byte));
    let mut words = text.as_bytes().chunks_exact(8);
    words.by_ref().for_each(|bytes| state.take(word(bytes)));
    state.take(word(words.remainder()) | (text.len() as u64) << 56);
    state.c ^= 0xff;
    (0..4).for_each(|_| state.round());
    state.a ^ state.b ^ state.c ^ state.d
}

struct Sip {
    a: u64,
    b: u64,
    c: u64,
    d: u64,
}

impl Sip {
    fn take(&mut self, word: u64) {
        self.d ^= word;
        self.round();
        self.round();
        self.a ^= word;
    }

    fn round(&mut self) {
        self.a = self.a.wrapping_add(self.b);
        self.b = self.b.rotate_left(13) ^ self.a;
        self.a = self.a.rotate_left(32);
        self.c = self.c.wrapping_add(self.d);
        self.d = self.d.rotate_left(16) ^ self.c;
        self.a = self.a.wrapping_add(self.d);
        self.d = self.d.rotate_left(21) ^ self.a;
        self.c = self.c.wrapping_add(self.b);
        self.b = self.b.rotate_left(17) ^ self.c;
        self.c = self.c.rotate_left(32);
    }
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
