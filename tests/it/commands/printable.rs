//! Other people's text never reaches a terminal as anything but visible characters, whichever way it leaves.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Netns, binary, outcome, run};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("annotations", &[Need::Macvlan], annotations),
        ("labels_in_json", &[Need::Macvlan], labels),
        ("links", &[Need::Macvlan], links),
        ("paths_in_tables_and_logs", &[Need::Macvlan], paths),
        ("commands_of_odd_parents", &[Need::Macvlan], pasted),
        ("command_line", &[Need::Macvlan], command_line),
    ];
    all.map(|(name, needs, run)| Test::new(format!("printable::{name}"), needs, run)).into()
}

/// Colour by C0 and by C1, a bell, DEL, and text that runs backwards.
const HOSTILE: &str = "\u{1b}[31m\u{9b}31m\u{7}\u{7f}\u{202e}\u{2066}";
/// How it starts where it is shown.
const SHOWN: &str = "\\u{1b}[31m\\u{9b}31m";

#[track_caller]
fn assert_visible(text: &str) {
    let hides = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    assert!(!text.contains(hides), "{text:?}");
}

fn annotations() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", r#"{"inline_networks": true}"#);
    let own = format!("io.underlay.{HOSTILE}");
    let inline = format!("io.underlay.network.{HOSTILE}");
    for (networks, key, value) in [
        (HOSTILE.to_owned(), "other", "x"),
        (format!("pub_net:{HOSTILE}"), "other", "x"),
        (format!("pub_net:{HOSTILE}=1"), "other", "x"),
        (format!("pub_net:ip={HOSTILE}"), "other", "x"),
        (format!("pub_net:ifname={HOSTILE}"), "other", "x"),
        (json!([{"name": HOSTILE}]).to_string(), "other", "x"),
        (json!([{ HOSTILE: 1 }]).to_string(), "other", "x"),
        ("pub_net".to_owned(), &own, "x"),
        ("pub_net".to_owned(), &inline, "{}"),
        ("n".to_owned(), "io.underlay.network.n", &json!({"version": 1, HOSTILE: 1}).to_string()),
    ] {
        let container = bed.container(Bare, "web").networks(&networks).annotation(key, value);
        let said = container.start().map(drop).unwrap_err();
        assert!(
            said.starts_with("underlay: container web") && said.contains(SHOWN),
            "{networks:?} {key:?}: {said}"
        );
        assert_visible(&said);
        assert!(bed.log().lines().last().unwrap().contains(SHOWN), "{}", bed.log());
    }
    assert_visible(&bed.log());
    assert_eq!(bed.log().lines().count(), 10, "one line each");
    bed.assert_nothing_held();
}

/// The JSON means what was said, in visible characters.
fn labels() {
    let bed = Bed::with_pub_net("macvlan", &format!("--label {HOSTILE}=\u{1f600}{HOSTILE}"));
    for command in ["network inspect pub_net", "network ls --format json"] {
        let shown = bed.run(command);
        assert_visible(&shown);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown[0]["labels"][HOSTILE], format!("\u{1f600}{HOSTILE}"));
    }
}

/// Links of others, with names and aliases as the kernel allows them.
fn links() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("links");
    for host in [&bed.host, &netns] {
        let done = outcome(
            host.command("ip").args([
                "link",
                "add",
                "e\u{1b}[31m\u{202e}",
                "type",
                "veth",
                "peer",
                "p\u{9b}31m",
            ]),
            b"",
        );
        assert_eq!(done.code, 0, "{done:?}");
        for alias in [format!("underlay:{HOSTILE}:0"), format!("underlay:parent{HOSTILE}")] {
            let link = if alias.contains("parent") { "p\u{9b}31m" } else { "e\u{1b}[31m\u{202e}" };
            let done = outcome(host.command("ip").args(["link", "set", link, "alias", &alias]), b"");
            assert_eq!(done.code, 0, "{done:?}");
        }
    }
    let container = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).without_hooks();
    let container = container.start().unwrap();
    let mut said = String::new();
    for stage in ["createRuntime", "poststop"] {
        let mut hook = bed.underlay(&format!("hook {stage}"));
        let done =
            outcome(hook.env("RUST_LOG", "trace"), container.state(container.pid, "created").as_bytes());
        assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
        said += &done.stderr;
    }
    assert!(said.contains("[DEBUG] "), "{said}");
    assert_visible(&said);
    let outcome = bed.outcome("network create -o parent=e\u{1b}[31m\u{202e} n", "");
    assert_eq!(outcome.code, 1);
    assert_visible(&outcome.stderr);
}

/// The host may call its links what a shell reads as commands. Pasted, what `plan` and `gc` print does what it says.
fn pasted() {
    for name in ["e$(id>p)", "e;reboot", "e'x\"y", "e`id`&", "-e", "#e", "e|id", "~e", "e*"] {
        let bed = Bed::new();
        let link = ["link", "add", "name", name, "type", "veth", "peer", "odd"];
        let done = outcome(bed.host.command("ip").args(link), b"");
        assert_eq!(done.code, 0, "{name}: {done:?}");
        let network = json!({
            "version": 1, "driver": "macvlan", "parent": name, "host_access": true,
            "subnets": [{"subnet": "10.9.0.0/24"}],
        });
        fs::write(bed.path("etc/networks/lan.json"), network.to_string()).unwrap();
        let up = ["link", "set", "dev", name, "up"];
        assert_eq!(outcome(bed.host.command("ip").args(up), b"").code, 0);
        let plan = bed.run("plan --annotation io.underlay.networks=lan");
        let words = words_of(&bed, &plan);
        assert!(words.lines().filter(|word| *word == name).count() >= 2, "{name}: {plan}\n{words}");
        let mut web = bed.container(Bare, "web").networks("lan").start().unwrap();
        web.kill();
        web.forget();
        let mut all = bed.run("gc --dry-run");
        all += &bed.gc();
        for command in ["check", "doctor", "network inspect lan", "network ls", "metrics"] {
            let said = bed.outcome(command, "");
            assert!(!said.stderr.contains("panicked"), "{name}: {said:?}");
        }
        words_of(&bed, &all);
    }
}

/// The words of the commands in `text`, as a shell reads them where `ip` and the like do nothing and anything else is
/// a failure.
fn words_of(bed: &Bed, text: &str) -> String {
    let folder = bed.path("pasted");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "set -eu; PATH=/nowhere; cd {}; for name in ip sysctl rm ln nsenter; do \
         eval \"$name() {{ printf '%s\\n' \\\"\\$@\\\"; }}\"; done\n{text}",
        folder.display()
    );
    let done = outcome(std::process::Command::new("/bin/sh").args(["-c", &script]), b"");
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{text}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{text}");
    done.stdout
}

/// The path of a container's namespace is its creator's text, and stands in what `gc` prints.
fn paths() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("path");
    let path = bed.path(&format!("netns'; reboot {HOSTILE}"));
    symlink(netns.path(), &path).unwrap();
    let container = bed.container(Bare, "web").networks("pub_net:ifname=a_reboot");
    let mut container = container.in_netns(path.clone()).start().unwrap();
    container.kill();
    // Versions before took such a name.
    let record = bed.path(&format!("run/containers/{}.json", container.id));
    fs::write(&record, fs::read_to_string(&record).unwrap().replace("a_reboot", "a;reboot")).unwrap();
    let shown = bed.run("gc --dry-run");
    // Pasted, it is the very path and the very name.
    let first = shown.lines().next().unwrap();
    let pasted = run("sh", &["-c", &format!("printf '%s\\n' {first}")]).unwrap();
    assert_eq!(pasted, format!("nsenter\n--net={}\nip\nlink\ndel\na;reboot\n", path.display()));
    assert!(shown.contains(" ip link del 'a;reboot'\nrm "), "{shown}");
    assert_visible(&shown);
    assert_visible(&bed.run(&format!("inspect {}", container.id)));
    assert_visible(&bed.gc());
    // What `log` says on stderr.
    let state = bed.path(&format!("run{HOSTILE}"));
    fs::create_dir_all(state.join("containers")).unwrap();
    fs::write(state.join("containers/web.json"), "x").unwrap();
    let mut command = bed.host.command(binary());
    command.arg("--config-dir").arg(bed.path("etc")).arg("--state-dir").arg(&state).arg("ps");
    let listed = outcome(&mut command, b"");
    assert!(listed.stderr.starts_with("[WARN ] ") && listed.stderr.contains(SHOWN), "{listed:?}");
    assert_visible(&listed.stderr);
}

fn command_line() {
    let bed = Bed::new();
    for (arguments, code) in [
        (HOSTILE.to_owned(), 2),
        (format!("--{HOSTILE}"), 2),
        (format!("ps --format {HOSTILE}"), 2),
        (format!("network create {HOSTILE}"), 2),
        (format!("network create -o {HOSTILE}=1 n"), 2),
        (format!("network create --subnet {HOSTILE} n"), 2),
        (format!("inspect {HOSTILE}"), 1),
    ] {
        let outcome = bed.outcome(&arguments, "");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{outcome:?}");
        // What looks like a colour to clap it leaves out.
        assert!(outcome.stderr.contains("\\u{9b}31m"), "{arguments:?}: {outcome:?}");
        assert_visible(&outcome.stderr);
    }
    let help = bed.run("--help");
    assert!(
        help.contains("\n\nUsage: underlay ") && help.ends_with('\n') && !help.ends_with("\n\n"),
        "{help}"
    );
}
