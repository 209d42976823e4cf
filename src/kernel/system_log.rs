//! The system log: systemd's journal, which has fields, or syslog.

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};

use crate::escape::printable;
use crate::ledger::event::Event;

/// systemd.journal's native protocol (systemd: "Native Journal Protocol").
const JOURNAL: &str = "/run/systemd/journal/socket";
/// RFC 3164, as syslog(3) speaks it.
const SYSLOG: &str = "/dev/log";
/// `LOG_DAEMON`
const FACILITY: u8 = 3;

/// Writes `event` to the system log, if a log daemon listens at this moment.
pub(crate) fn write_system_log(event: &Event) {
    // No waiting for a reader that is slow.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None) else { return };
    let send = |path: &str, text: String| {
        let address = SocketAddrUnix::new(path)?;
        sendto(&socket, text.as_bytes(), SendFlags::NOSIGNAL, &address)
    };
    if send(JOURNAL, fields(event)).is_err() {
        let priority = (FACILITY << 3) | event.priority() as u8;
        let message = printable::message(&event.to_string());
        let _ = send(SYSLOG, format!("<{priority}>underlay: {message}"));
    }
}

/// The lines `FIELD=value` of the native protocol. A value has no line break.
fn fields(event: &Event) -> String {
    let networks: Vec<_> = event.networks().iter().map(|network| network.as_str()).collect();
    let fields = [
        ("MESSAGE", event.to_string()),
        ("PRIORITY", (event.priority() as u8).to_string()),
        ("SYSLOG_IDENTIFIER", "underlay".to_owned()),
        ("UNDERLAY_EVENT", event.kind().to_owned()),
        ("UNDERLAY_CONTAINER", event.container().unwrap_or_default().to_owned()),
        ("UNDERLAY_NETWORKS", networks.join(",")),
    ];
    let line = |(name, value): (&str, String)| format!("{name}={}\n", printable::message(&value));
    fields.into_iter().filter(|(_, value)| !value.is_empty()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn fields_are_lines() {
        let event = Event::failed("poststop", Some("web"), &Error::input("two\nlines"));
        let text = fields(&event);
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.starts_with("MESSAGE=poststop failed: container web: two"), "{text}");
        assert!(text.contains("\nPRIORITY=3\n") && text.ends_with("UNDERLAY_CONTAINER=web\n"), "{text}");
    }
}
