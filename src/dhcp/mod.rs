//! DHCP clients as values: messages as bytes, and what a client does with them. There is no I/O, clock or random number here:
//! the caller has them. All times are since the boot, and go on while the host is suspended (`CLOCK_BOOTTIME`).
//!
//! `v4` and `v6` are alike, and `client.rs` is either. A caller makes a `Client`: `new` to get a lease, `resume` with a lease of
//! the ledger. It then calls `step(Event::Timer, …)` at each `deadline()`, `step` with what comes in between, and does what the
//! effects say, in order:
//!
//! | effect | what is done |
//! |---|---|
//! | `Send` | v4: `udp::packet(from, to, &message.encode())` goes out by a packet socket; what is from the lease's address to the server, by a UDP socket of port 68. v6: `message.encode()` goes to `ff02::1:2`, port 547, from port 546 of the link-local address |
//! | `Probe` | the LAN is asked (`net/arp_nd.rs`); then `Event::Free` or `Event::Conflict`. Without conflict detection, `Free` at once |
//! | `Bound` | the lease is written into the ledger; address, with its `lifetime`, and routes into the kernel. Those of the lease before, if they differ, go |
//! | `Lost` | address and routes go at once; the client asks for others |
//! | `Failed` | `Failure::error` is the message. A client with a time limit is at its end |
//!
//! What a packet socket receives becomes an event by `udp::read` and `Message::parse`; what they refuse is passed over.
//! `request::release` gives a lease back, without a client.
//!
//! The states of `v4` (RFC 2131, figure 5), with PROBING between the server's word and the use of the address:
//!
//! ```text
//!  new ──► INIT ──DISCOVER──► SELECTING ──OFFER, REQUEST──► REQUESTING ──ACK──► PROBING
//!           ▲                     └────── ACK, with rapid commit ────────────────► │ ▲
//!           │                                                                      │ │
//!           ├──── NAK, no answer ───────────────────────────── REQUESTING          │ │ ACK, another
//!           ├──── another host has the address: DECLINE ────── PROBING             │ │ address
//!           │                                                no host has it: Bound │ │
//!           │                                                                      ▼ │
//!           │  resume ─────────────────────────────────────────────────────────► BOUND ◄── ACK: Bound
//!           │                                                                      │            │
//!           ├──── NAK: Lost ────────────────────────────────── RENEWING ◄───── T1 ─┤ ───────────┤
//!           ├──── NAK, lease is over: Lost ─────────────────── REBINDING ◄──── T2 ─┤ ───────────┤
//!           └──── NAK: Lost; no answer ─────────────────────── REBOOTING ◄─ moved ─┘ ───────────┘
//! ```
//!
//! A client with a time limit is STOPPED when it is over: it gives back what it has asked for. Any other begins again after a
//! pause. A lease counts until it is over, refused or in conflict, whatever the client does meanwhile.
//!
//! `v6` (RFC 8415, 18.2) has SOLICIT and ADVERTISE for DISCOVER and OFFER, REPLY for ACK, CONFIRM for what REBOOTING does, and
//! status codes instead of NAK. If nothing answers a CONFIRM, the lease holds.

pub(crate) mod client;
pub(crate) mod client_id;
pub(crate) mod domain_name;
mod hex;
pub(crate) mod lease;
pub(crate) mod message;
pub(crate) mod times;
pub(crate) mod v4;
pub(crate) mod v6;
