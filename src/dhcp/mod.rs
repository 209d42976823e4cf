//! DHCP clients as values: messages as bytes, and what a client does with them. There is no I/O, clock or random number here:
//! the caller has them.
//!
//! A caller of `v4` makes a `Client`: `new` to get a lease, `resume` with a lease of the ledger. It then calls
//! `step(Event::Timer, …)` at each `deadline()`, `step` with what comes in between, and does what the effects say:
//!
//! | effect | what is done |
//! |---|---|
//! | `Send` | `udp::packet(from, to, &message.encode())` goes out by a packet socket; from the lease's address to the server, a UDP socket of port 68 does it |
//! | `Probe` | the LAN is asked (`arp_nd::probe`); then `Event::Free` or `Event::Conflict`. Without conflict detection, `Free` at once |
//! | `Bound` | the lease is written into the ledger; its address, with `seconds_left`, and its routes into the kernel. Those of the lease before, if they differ, go |
//! | `Lost` | address and routes go at once |
//! | `Failed` | `Failure::error` is the message. A client with a time limit is at its end |
//!
//! What a packet socket receives becomes an event by `udp::read`, `Message::parse`; what they refuse is passed over.
//! `request::release` gives a lease back, without a client.
//!
//! The states of `v4`, as RFC 2131 calls them, but for PROBING:
//!
//! ```text
//!          ┌────────────────────────── nothing is heard; NAK; conflict: DECLINE ───────────────┐
//!          ▼                                                                                   │
//!  new ─► INIT ─DISCOVER─► SELECTING ─OFFER: REQUEST─► REQUESTING ─ACK─► PROBING ─ no host has it ─┐
//!          ▲                   └────────── rapid commit: ACK ─────────────▲ ▲                  │
//!          │                                        another address ──────┘ │                  ▼
//!          │                                                  ┌─────────────┴──────────────► BOUND ◄─ resume
//!          │                                                 ACK                               │
//!          │  lease is over; NAK          ┌───────────────────┴─────┐                      T1: REQUEST to the server
//!          ├────────────────────── REBINDING ◄─ T2: REQUEST to all ─ RENEWING ◄────────────────┤
//!          │                                                                                   │
//!          └── nothing is heard; NAK ── REBOOTING ◄─────────────────────── moved: REQUEST ─────┘
//! ```
//!
//! A client with a time limit is STOPPED when it is over; any other begins again after a pause. From REBOOTING, an ACK leads back
//! to BOUND. A lease counts until it is over, refused or in conflict, whatever the client does meanwhile.

pub(crate) mod client_id;
pub(crate) mod domain_name;
mod hex;
pub(crate) mod times;
pub(crate) mod v4;
