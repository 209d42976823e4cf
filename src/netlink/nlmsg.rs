//! One message to the kernel with its header (`struct nlmsghdr`).

use std::io::Cursor;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::{Size, ToBytes};

use crate::error::{Error, Result};

/// One message to the kernel, without its number.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn new<P: Size + ToBytes>(kind: Rtm, flags: NlmF, payload: P) -> Result<Self> {
        let message = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(unsound)?;
        let mut bytes = Cursor::new(Vec::with_capacity(256));
        message.to_bytes(&mut bytes).map_err(unsound)?;
        Ok(Self(bytes.into_inner()))
    }

    /// The message, to be answered only if it fails (`nlmsg_flags`, without `NLM_F_ACK`).
    pub(crate) fn without_ack(self) -> Self {
        let Self(mut bytes) = self;
        if let Some([.., a, b]) = bytes.first_chunk_mut::<8>() {
            [*a, *b] = (u16::from_ne_bytes([*a, *b]) & !NlmF::ACK.bits()).to_ne_bytes();
        }
        Self(bytes)
    }

    /// The message with its number (`nlmsg_seq`, the third word of nlmsghdr).
    pub(crate) fn numbered(self, sequence: u32) -> Vec<u8> {
        let Self(mut bytes) = self;
        if let Some(place) = bytes.get_mut(8..12) {
            place.copy_from_slice(&sequence.to_ne_bytes());
        }
        bytes
    }
}

pub(crate) fn unsound(error: impl std::fmt::Display) -> Error {
    Error::input(format!("cannot write a netlink message: {error}"))
}
