//! What nobody can guess.

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Result};

/// Random bytes of the kernel's (getrandom(2), which waits until it has enough of them); at most 256, which it never cuts
/// short.
///
/// # Errors
/// When it has none to give.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    let got = retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()));
    got.map(|_| bytes).map_err(|errno| Error::kernel("get random numbers of the kernel", &errno.into()))
}
