//! One message to the kernel with its header (`struct nlmsghdr`).

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;

use super::attr::Attribute;
use crate::error::Result;

/// The length of `struct nlmsghdr`.
const NLMSGHDR: usize = 16;

/// One message to the kernel, without its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    kind: Rtm,
    flags: NlmF,
    payload: Vec<u8>,
}

impl Message {
    /// Takes the header of the payload, which depends on `kind`, and the attributes behind it.
    pub(super) fn new(
        kind: Rtm,
        flags: NlmF,
        header: &[u8],
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Result<Self> {
        let mut payload = header.to_vec();
        for attribute in attributes {
            payload.extend(attribute?);
        }
        Ok(Self { kind, flags: NlmF::REQUEST | flags, payload })
    }

    /// The message without `NLM_F_ACK`: the kernel answers only if it fails.
    pub(super) fn without_ack(self) -> Self {
        Self { flags: self.flags.difference(NlmF::ACK), ..self }
    }

    /// The bytes of the message with its sequence number (`nlmsg_seq`); the kernel fills in the port (`nlmsg_pid`).
    pub(super) fn numbered(self, sequence: u32) -> Vec<u8> {
        let length = (NLMSGHDR + self.payload.len()) as u32;
        let (kind, flags) = (u16::from(self.kind).to_ne_bytes(), self.flags.bits().to_ne_bytes());
        [&length.to_ne_bytes()[..], &kind, &flags, &sequence.to_ne_bytes(), &[0; 4], &self.payload].concat()
    }
}
