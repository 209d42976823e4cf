//! One message to the kernel with its header (`struct nlmsghdr`).

use std::fmt::Display;
use std::io::Cursor;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::types::Buffer;
use neli::{Size, ToBytes};

use crate::error::{Error, Result};

/// One message to the kernel, without its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Takes `payload` as neli's builders return it.
    pub(super) fn new<P: Size + ToBytes>(
        kind: Rtm,
        flags: NlmF,
        payload: std::result::Result<P, impl Display>,
    ) -> Result<Self> {
        let message = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_payload(NlPayload::Payload(payload.map_err(unsound)?))
            .build()
            .map_err(unsound)?;
        let mut bytes = Cursor::new(Vec::with_capacity(256));
        message.to_bytes(&mut bytes).map_err(unsound)?;
        Ok(Self(bytes.into_inner()))
    }

    /// A message of which neli lacks the type: a header of `header` zero bytes, and attributes of four bytes.
    pub(super) fn plain(
        kind: Rtm,
        flags: NlmF,
        header: usize,
        attributes: &[(u16, [u8; 4])],
    ) -> Result<Self> {
        let mut payload = vec![0; header];
        for (kind, value) in attributes {
            payload.extend([8_u16.to_ne_bytes(), kind.to_ne_bytes()].concat());
            payload.extend(value);
        }
        Self::new(kind, flags, Ok::<_, Error>(Buffer::from(payload)))
    }

    /// The message without `NLM_F_ACK`: the kernel answers only if it fails.
    pub(super) fn without_ack(mut self) -> Self {
        if let Some([.., a, b]) = self.0.first_chunk_mut::<8>() {
            [*a, *b] = (u16::from_ne_bytes([*a, *b]) & !NlmF::ACK.bits()).to_ne_bytes();
        }
        self
    }

    /// The bytes of the message with its sequence number (`nlmsg_seq`).
    pub(super) fn numbered(mut self, sequence: u32) -> Vec<u8> {
        if let Some(place) = self.0.get_mut(8..12) {
            place.copy_from_slice(&sequence.to_ne_bytes());
        }
        self.0
    }
}

pub(super) fn unsound(error: impl Display) -> Error {
    Error::input(format!("cannot write a netlink message: {error}"))
}
