//! What operators are told: `underlay events`, `underlay metrics`, the system's journal.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::Value;

use crate::harness::bed::{Bed, outcome};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 3] = [
        ("what_has_happened", &[Need::Macvlan], what_has_happened),
        ("metrics", &[Need::Macvlan], metrics),
        ("the_journal_is_told", &[Need::Macvlan], journal),
    ];
    all.map(|(name, needs, run)| Test::new(format!("events::{name}"), needs, run)).into()
}

fn what_has_happened() {
    let bed = Bed::with_pub_net("macvlan", "");
    assert_eq!((bed.run("events"), bed.run("events --format json").trim()), (String::new(), "[]"));
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let (id, mac) = (web.id.clone(), bed.macs().remove(0));
    web.stop();
    let mut dead = bed.container(Bare, "dead").networks("pub_net:ip=172.16.86.9").start().unwrap();
    dead.kill();
    bed.gc();
    bed.container(Bare, "lost").networks("nowhere").start().map(drop).unwrap_err();
    let events: Vec<Value> = serde_json::from_str(&bed.run("events --format json")).unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["attached", "detached", "attached", "reclaimed", "failed"]);
    let expected = serde_json::json!([{
        "network": "pub_net", "ifname": "eth0", "mac": mac, "addresses": ["172.16.86.2/24"],
    }]);
    for event in &events[..2] {
        assert_eq!((&event["container"], &event["attachments"]), (&Value::from(id.as_str()), &expected));
        assert!(humantime::parse_rfc3339(event["time"].as_str().unwrap()).is_ok(), "{event}");
    }
    assert_eq!(events[3]["attachments"][0]["addresses"][0], "172.16.86.9/24");
    assert_eq!(
        (&events[4]["stage"], &events[4]["container"]),
        (&Value::from("createRuntime"), &Value::from(format!("lost-{}", bed.host.name)),)
    );
    assert!(events[4]["error"].as_str().unwrap().starts_with("network nowhere does not exist"), "{events:?}");
    let lines = bed.run("events");
    assert_eq!(lines.lines().count(), 5, "{lines}");
    assert!(lines.contains(&format!(" detached {id} pub_net:eth0,172.16.86.2/24\n")), "{lines}");
}

fn metrics() {
    let bed = Bed::with_pub_net("macvlan", "--subnet 2001:db8::/120");
    let sample = |line: &str| {
        let text = bed.run("metrics");
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line} is not in\n{text}")).parse::<u64>().unwrap()
    };
    let labels = r#"{network="pub_net",parent="eth0",subnet="172.16.86.0/24"}"#;
    let [used, free] = ["in_use", "free"].map(|what| format!("underlay_addresses_{what}{labels}"));
    let before = (sample(&used), sample(&free));
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!((sample(&used), sample(&free)), (before.0 + 1, before.1 - 1));
    let links =
        |state: &str| sample(&format!(r#"underlay_attachments{{network="pub_net",state="{state}"}}"#));
    assert_eq!((links("alive"), links("dead")), (1, 0));
    web.kill();
    assert_eq!((links("alive"), links("dead")), (0, 1));
    bed.gc();
    assert_eq!((sample(&used), sample(&free)), before);
    let events = |kind: &str| sample(&format!(r#"underlay_events_total{{event="{kind}"}}"#));
    assert_eq!(["attached", "reclaimed", "detached", "conflict", "failed"].map(events), [1, 1, 0, 0, 0]);
    assert_eq!(
        sample(r#"underlay_addresses_free{network="pub_net",parent="eth0",subnet="2001:db8::/120"}"#),
        255
    );
    // Each metric has its help and type, once and before its samples (Prometheus: "Text-based format").
    let text = bed.run("metrics");
    for name in ["addresses_in_use", "addresses_free", "addresses_quarantined", "attachments", "events_total"]
    {
        let of = |word: &str| text.matches(&format!("# {word} underlay_{name} ")).count();
        assert_eq!((of("HELP"), of("TYPE")), (1, 1), "{name}");
    }
}

/// The journal's socket gets fields; without it syslog's gets a line. Both are where the hook looks for them in a mount
/// namespace of its own.
fn journal() {
    let bed = Bed::with_pub_net("macvlan", "-o announcements=0");
    let attach = |id: &str, place: &str| {
        let socket = UnixDatagram::bind(bed.path(id)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let web = bed.container(Bare, id).networks("pub_net").without_hooks().start().unwrap();
        let hook = bed.underlay("hook createRuntime");
        let mut command = bed.host.command("unshare");
        let script = format!(
            "mount -t tmpfs none {0} && mkdir -p {0}/$(dirname {1}) && ln -s \"$0\" {0}/{1} && exec \"$@\"",
            if place.starts_with("systemd") { "/run" } else { "/dev" },
            place
        );
        // What is hidden by the tmpfs is entered before.
        command.args(["--mount", "sh", "-c", &script]).arg(bed.path(id));
        let inner: Vec<_> = hook.get_args().skip(1).collect();
        command.args(inner);
        let attached = outcome(&mut command, web.state_at("createRuntime").as_bytes());
        assert_eq!((attached.code, attached.stderr.as_str()), (0, ""));
        let mut heard = [0; 4096];
        let length = socket.recv(&mut heard).unwrap();
        (String::from_utf8(heard[..length].to_vec()).unwrap(), web)
    };
    let (heard, web) = attach("web", "systemd/journal/socket");
    let message = format!("attached {} pub_net:eth0,172.16.86.2/24", web.id);
    for field in [
        format!("MESSAGE={message}"),
        "PRIORITY=6".into(),
        "SYSLOG_IDENTIFIER=underlay".into(),
        "UNDERLAY_EVENT=attached".into(),
        format!("UNDERLAY_CONTAINER={}", web.id),
        "UNDERLAY_NETWORKS=pub_net".into(),
    ] {
        assert!(heard.lines().any(|line| line == field), "{field}: {heard}");
    }
    let (heard, web) = attach("next", "log");
    assert_eq!(heard, format!("<30>underlay: attached {} pub_net:eth0,172.16.86.3/24", web.id));
}
