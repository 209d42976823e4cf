//! What nobody can guess.

use std::io;

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Kind, Result};

/// Random bytes of the kernel's (getrandom(2), which waits until it has enough of them); at most 256, which it never cuts
/// short.
///
/// # Errors
/// When it has none to give.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    match retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty())) {
        Ok(_) => Ok(bytes),
        Err(errno) => {
            let text = format!("the kernel gives no random numbers: {}", io::Error::from(errno));
            Err(Error::new(Kind::Kernel(errno.raw_os_error()), text))
        }
    }
}
