//! Bad input is refused in words and changes nothing.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Netns, finish};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let all: [(&str, fn()); 7] = [
        ("stdin", stdin),
        ("state", state),
        ("config_json", config_json),
        ("annotations", annotations),
        ("mistyped_annotations", mistyped),
        ("network_files", network_files),
        ("namespace_paths", namespace_paths),
    ];
    all.map(|(name, run)| Test::new(format!("bad_input::{name}"), &[Need::Macvlan], run)).into()
}

/// Asserts that `underlay hook STAGE` refuses `stdin` with `message`, and that the ledger stays empty.
#[track_caller]
fn refused(bed: &Bed, stage: &str, stdin: impl AsRef<[u8]>, message: &str) {
    let outcome = bed.outcome(&format!("hook {stage}"), stdin);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome.stderr.starts_with("underlay: ") && outcome.stderr.contains(message),
        "{message}\n{outcome:?}"
    );
    assert!(outcome.stdout.is_empty());
    bed.assert_nothing_held();
}

fn stdin() {
    let bed = Bed::with_pub_net("macvlan", "");
    for stage in ["createRuntime", "poststop"] {
        refused(&bed, stage, "", "OCI state on stdin: EOF while parsing a value");
        refused(
            &bed,
            stage,
            r#"{"id": "web", "pid": 1, "bun"#,
            "OCI state on stdin: EOF while parsing a string",
        );
        refused(&bed, stage, "\u{1b}[31mred", "OCI state on stdin: is not a JSON object");
        refused(&bed, stage, b"{\"id\": \"\xff\xfe\"}", "OCI state on stdin: id: invalid unicode code point");
        refused(&bed, stage, vec![b' '; 64 << 20], "OCI state on stdin is larger than 16777216 bytes");
        let huge = format!(r#"{{"id": "web", "x": "{}"}}"#, "x".repeat(64 << 20));
        refused(&bed, stage, huge, "OCI state on stdin is larger than 16777216 bytes");
        refused(&bed, stage, "[".repeat(1 << 20), "OCI state on stdin: is not a JSON object");
        refused(&bed, stage, format!(r#"{{"id":{}"#, "[".repeat(1 << 20)), "OCI state on stdin: id");
        refused(&bed, stage, r#"{"id": "web"} {}"#, "OCI state on stdin: trailing characters");
    }
}

/// The key that everybody types as well: the container does not start, and `plan` says why.
fn mistyped() {
    let bed = Bed::with_pub_net("macvlan", "");
    for (key, said) in [
        ("io.underlay.network", "annotation \"io.underlay.network\" is not known"),
        ("io.underlay.netwroks", "annotation \"io.underlay.netwroks\" is not known"),
        ("io.underlay.identity", "asks for no network"),
    ] {
        let error = bed.container(Bare, "web").annotation(key, "pub_net").start().map(drop).unwrap_err();
        assert!(error.contains(said), "{error}");
        let plan = bed.outcome(&format!("plan --annotation {key}=pub_net"), "");
        assert!(plan.code != 0 && plan.stderr.contains(said), "{plan:?}");
    }
    bed.assert_nothing_held();
    bed.container(Bare, "other").annotation("io.underlayer.network", "pub_net").start().unwrap();
}

fn state() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    let state: Value = serde_json::from_str(&container.state(container.pid, "created")).unwrap();
    let with = |key: &str, value: Value| {
        let mut state = state.clone();
        match value {
            Value::Null => state.as_object_mut().unwrap().remove(key).map(drop).unwrap(),
            value => state[key] = value,
        }
        state.to_string()
    };
    let null = Value::Null;
    refused(&bed, "createRuntime", with("id", null.clone()), "OCI state on stdin has no id");
    refused(&bed, "poststop", with("id", null.clone()), "OCI state on stdin has no id");
    refused(&bed, "createRuntime", with("pid", null.clone()), "OCI state on stdin has no pid");
    refused(&bed, "createRuntime", with("bundle", null), "OCI state on stdin has no bundle");
    for (pid, message) in [
        (json!(0), "pid 0 is no process"),
        (json!(-1), "pid -1 is no process"),
        (json!(i32::MAX), "process 2147483647 of the container is gone"),
        (json!(1u64 << 40), "OCI state on stdin: pid: invalid value"),
        (json!("1"), "OCI state on stdin: pid: invalid type: string"),
    ] {
        refused(&bed, "createRuntime", with("pid", pid), message);
    }
    let long = "x".repeat(300);
    for id in ["a/b", "..", ".", "../../etc/passwd", "a b", "a\u{1b}[31m", &long] {
        refused(&bed, "createRuntime", with("id", id.into()), "container id");
        // Nothing of such a name can be ours.
        let outcome = bed.outcome("hook poststop", with("id", id.into()));
        assert_eq!((outcome.code, outcome.stderr.contains('\u{1b}')), (0, false));
    }
    let outcome = bed.outcome("hook createRuntime", with("id", "a\u{1b}[31m".into()));
    assert!(
        !outcome.stderr.contains('\u{1b}') && !bed.log().contains('\u{1b}'),
        "control characters do not pass"
    );
    refused(&bed, "createRuntime", with("id", "".into()), "OCI state on stdin has no id");
    // What no runtime says should not matter, does not.
    for status in ["creating", "created", "running", "stopped", "paused", ""] {
        let mut outcome = bed.outcome("hook createRuntime", with("status", status.into()));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{status}");
        outcome = bed.outcome("hook createRuntime", with("ociVersion", "99".into()));
        assert_eq!(outcome.code, 0);
    }
    assert_eq!(bed.leases().len(), 1);
}

fn config_json() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    let state = container.state(container.pid, "created");
    let config = container.bundle.join("config.json");
    let refused = |message: &str| refused(&bed, "createRuntime", &state, message);
    for (text, message) in [
        ("", "config.json: EOF while parsing a value"),
        ("{", "config.json: EOF while parsing an object"),
        ("[]", "config.json: is not a JSON object"),
        (r#"{"annotations": []}"#, "config.json: annotations: invalid type: sequence, expected a map"),
        (r#"{"annotations": "x"}"#, "config.json: annotations: invalid type: string"),
        (
            r#"{"annotations": {"io.underlay.networks": 5}}"#,
            "config.json: annotations.io.underlay.networks: invalid type: integer `5`",
        ),
        (
            r#"{"annotations": {"io.underlay.networks": "pub_net"}, "linux": {"namespaces": 5}}"#,
            "config.json: linux: namespaces: invalid type",
        ),
    ] {
        fs::write(&config, text).unwrap();
        refused(message);
    }
    fs::write(&config, vec![b' '; (16 << 20) + 1]).unwrap();
    refused("config.json is larger than 16777216 bytes");
    fs::remove_file(&config).unwrap();
    refused("config.json does not exist");
    fs::create_dir(&config).unwrap();
    refused("config.json is not a regular file");
    fs::remove_dir(&config).unwrap();
    std::os::unix::fs::symlink("config.json", &config).unwrap();
    refused("Too many levels of symbolic links");
    fs::remove_file(&config).unwrap();
    // A pipe nobody writes to must not hang the start of a container.
    finish(Command::new("mkfifo").arg(&config)).unwrap();
    refused("config.json is not a regular file");
    assert!(container.links().is_empty());
}

fn annotations() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").without_hooks().start().unwrap();
    let state = container.state(container.pid, "created");
    let config = container.bundle.join("config.json");
    let networks = |name: &str| format!(r#"[{{"name": "pub_net", {name}}}]"#);
    for (value, message) in [
        (
            networks(r#""ifname": "sixteen-characte""#),
            "[0].ifname: interface name \"sixteen-characte\" is not usable",
        ),
        (networks(r#""ifname": "a/b""#), "interface name \"a/b\" is not usable"),
        (networks(r#""ifname": "a b""#), "interface name \"a b\" is not usable"),
        (networks(r#""ifname": "a:b""#), "interface name \"a:b\" is not usable"),
        (networks(r#""ifname": """#), "interface name \"\" is not usable"),
        (networks(r#""ifname": "..""#), "interface name \"..\" is not usable"),
        (networks(r#""ips": ["2001:db8::5"]"#), "address 2001:db8::5 is in no subnet of network pub_net"),
        (networks(r#""ips": ["fe80::1%eth0"]"#), "[0].ips: address \"fe80::1%eth0\" is not usable"),
        (networks(r#""ips": ["172.16.86.9/33"]"#), "address \"172.16.86.9/33\" is not usable"),
        (
            networks(r#""ips": ["172.16.86.9/25"]"#),
            "address 172.16.86.9/25 does not fit subnet 172.16.86.0/24",
        ),
        (networks(r#""ips": ["172.16.86.255"]"#), "address 172.16.86.255 is not a host address of subnet"),
        (
            networks(r#""ips": ["172.16.86.250"]"#),
            "address 172.16.86.250 of network pub_net is held by this host itself",
        ),
        ("pub_net:ip=::ffff:172.16.86.9".into(), "address ::ffff:172.16.86.9 is in no subnet"),
        ("../../../etc/passwd".into(), "network name \"../../../etc/passwd\" is not usable"),
        (String::new(), "names no network"),
        ("x".repeat(1 << 10), "is not usable"),
        ("[".repeat(1 << 13), "annotation io.underlay.networks: "),
        (format!(r#"[{{"name":{}"#, "[".repeat(1 << 13)), "annotation io.underlay.networks: "),
    ] {
        fs::write(&config, json!({"annotations": {"io.underlay.networks": value}}).to_string()).unwrap();
        refused(&bed, "createRuntime", &state, message);
    }
    assert!(container.links().is_empty());
}

fn network_files() {
    let bed = Bed::with_pub_net("macvlan", "");
    let container = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    let state = container.state(container.pid, "created");
    for (text, message) in [
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "gateway": "10.0.0.1"}"#,
            "gateway: unknown field `gateway`",
        ),
        (r#"{"version": 2, "driver": "macvlan", "parent": "eth0"}"#, "version 2 is not known"),
        (r#"{"driver": "macvlan", "parent": "eth0"}"#, "missing field `version`"),
        (
            r#"{"version": 1, "driver": "bridge", "parent": "eth0"}"#,
            "driver: unknown variant `bridge`, expected `macvlan` or `ipvlan`",
        ),
        ("", "EOF while parsing"),
    ] {
        bed.configure("networks/pub_net.json", text);
        let file = bed.path("etc/networks/pub_net.json").display().to_string();
        refused(&bed, "createRuntime", &state, &format!("{file}: {message}"));
        let listed = bed.outcome("network ls", "");
        assert!(listed.code == 0 && listed.stderr.contains(message), "{listed:?}");
        assert_eq!(bed.outcome("network inspect pub_net", "").code, 1);
    }
    assert!(container.links().is_empty());
}

/// The path of a namespace is what the container's creator makes of it, also after the container is dead.
fn namespace_paths() {
    let bed = Bed::with_pub_net("macvlan", "");
    let (netns, other) = (Netns::new("path"), Netns::new("other"));
    let path = bed.path("netns");
    let replace: [(&str, &dyn Fn()); 6] = [
        ("a pipe nobody writes to", &|| drop(finish(Command::new("mkfifo").arg(&path)).unwrap())),
        ("a socket", &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap())),
        ("a loop", &|| std::os::unix::fs::symlink("netns", &path).unwrap()),
        ("a file", &|| fs::write(&path, "").unwrap()),
        ("another namespace", &|| std::os::unix::fs::symlink(other.path(), &path).unwrap()),
        ("this host's", &|| std::os::unix::fs::symlink(bed.host.path(), &path).unwrap()),
    ];
    for link in [&other, &bed.host] {
        link.ip("link add veth0 type veth peer name veth1");
    }
    for (what, replace) in replace {
        std::os::unix::fs::symlink(netns.path(), &path).unwrap();
        let container = bed.container(Bare, "web").networks("pub_net").in_netns(path.clone());
        let mut container = container.start().unwrap();
        fs::remove_file(&path).unwrap();
        replace();
        container.kill();
        let before = (other.ip("-br link"), bed.host.ip("-br link"));
        bed.gc();
        bed.assert_nothing_held();
        assert_eq!((other.ip("-br link"), bed.host.ip("-br link")), before, "{what}");
        fs::remove_file(&path).unwrap();
        assert!(netns.link("eth0").is_none(), "{what}: it is found without its path");
    }
}
