//! Networks as CDI devices: the file that engines read, and containers that were given devices.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use serde_json::json;

use crate::harness::bed::{Bed, binary, finish, outcome, place_program, write_program};
use crate::harness::container::Engine::{self, Bare, Podman};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::Macvlan;
    let all: [Named; 10] = [
        ("the_file_follows_the_networks", &[Macvlan], file),
        ("another_config_dir", &[Macvlan], another_config_dir),
        ("a_file_that_cannot_be_written", &[Macvlan], unwritable),
        ("devices_and_annotation", &[Macvlan], devices_and_annotation),
        ("no_bundle", &[Macvlan], no_bundle),
        ("a_program_that_others_can_write", &[], of_others),
        ("refused", &[Macvlan], refused),
        ("two_devices::runc", &[Macvlan, Need::Engine(Engine::Runc)], || two_devices(Engine::Runc)),
        ("two_devices::crun", &[Macvlan, Need::Engine(Engine::Crun)], || two_devices(Engine::Crun)),
        ("podman", &[Macvlan, Need::Engine(Podman), Need::Installed], podman),
    ];
    all.map(|(name, needs, run)| Test::new(format!("cdi::{name}"), needs, run)).into()
}

/// A bed with networks `pub_net` and `san`.
fn bed() -> Bed {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("--subnet=10.1.0.0/24 -o parent=eth0 san");
    bed
}

/// Who tries something out in folders of their own leaves the machine's devices alone.
fn another_config_dir() {
    let bed = Bed::with_pub_net("macvlan", "");
    let system = || fs::read("/etc/cdi/underlay.json").ok();
    let before = system();
    let mut underlay = bed.host.command(binary());
    // Without --cdi-dir.
    underlay.args(&bed.dirs()[..6]).args([
        "network",
        "create",
        "--subnet=10.1.0.0/24",
        "-o",
        "parent=eth0",
        "san",
    ]);
    finish(&mut underlay).unwrap();
    let written = fs::read_to_string(bed.path("etc/cdi/underlay.json")).unwrap();
    assert!(written.contains("\"name\": \"san\""), "{written}");
    assert_eq!(system(), before);
    assert!(!fs::read_to_string(bed.path("cdi/underlay.json")).unwrap().contains("san"));
}

/// Engines run as root what the file and the hooks name: nothing that another can change.
fn of_others() {
    let bed = Bed::new();
    let program = bed.path("bin/underlay");
    fs::create_dir(bed.path("bin")).unwrap();
    place_program(&binary(), &program);
    symlink("underlay", bed.path("bin/underlay-runtime")).unwrap();
    let run = |words: &str| {
        let mut command = bed.host.command(&program);
        outcome(command.args(bed.dirs()).args(words.split_whitespace()), b"")
    };
    write_program(&bed.path("runc"), "#!/bin/sh\n");
    bed.configure("underlay.json", &json!({"runtime": bed.path("runc")}).to_string());
    fs::create_dir(bed.path("bundle")).unwrap();
    let config = bed.path("bundle/config.json");
    let create = |annotation: &str| {
        fs::write(&config, json!({"annotations": {annotation: "lan"}}).to_string()).unwrap();
        let mut command = bed.host.command(bed.path("bin/underlay-runtime"));
        command.args(bed.dirs()).args(["create", "--bundle"]).arg(bed.path("bundle")).arg("web");
        let done = outcome(&mut command, b"");
        (done.code, done.stderr, fs::read_to_string(&config).unwrap().contains("createRuntime"))
    };
    chown(bed.path("bin"), Some(1000), None).unwrap();
    let why = format!(
        "{} belongs to user 1000, not to root: others than root could change",
        bed.path("bin").display()
    );
    let created = run("network create -o parent=eth0 lan");
    assert_eq!(created.code, 0, "{created:?}");
    assert!(created.stderr.contains(&why), "{created:?}");
    assert!(bed.cdi().is_none());
    let written = run("cdi");
    assert!(written.code == 1 && written.stderr.contains(&why), "{written:?}");
    let (code, stderr, has_hooks) = create("io.underlay.networks");
    assert!(code == 1 && stderr.contains(&why) && !has_hooks, "{stderr}");
    assert_eq!(create("org.example"), (0, String::new(), false), "who does not ask is left alone");
    chown(bed.path("bin"), Some(0), None).unwrap();
    assert_eq!(run("cdi").code, 0);
    assert_eq!(bed.device("lan")["containerEdits"]["hooks"][0]["path"], program.to_str().unwrap());
    assert_eq!(create("io.underlay.networks"), (0, String::new(), true));
}

fn file() {
    let bed = Bed::with_pub_net("macvlan", "");
    let path = bed.path("cdi/underlay.json");
    let hook = |stage: &str| {
        let folders = bed.dirs();
        let args = [
            &["underlay".to_owned()][..],
            &folders[..6],
            &["hook", stage, "--network", "pub_net"].map(str::to_owned),
        ];
        json!({"hookName": stage, "path": binary().canonicalize().unwrap(), "args": args.concat(), "timeout": 30})
    };
    let spec = json!({"cdiVersion": "0.3.0", "kind": "underlay.io/net", "devices": [
        {"name": "pub_net", "containerEdits": {"hooks": [hook("createRuntime"), hook("poststop")]}},
    ]});
    assert_eq!(bed.cdi(), Some(spec.clone()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "podman of others reads it");
    assert_eq!(fs::read_dir(bed.path("cdi")).unwrap().count(), 1, "no temporary file is left");

    let names = || {
        let spec = bed.cdi().unwrap();
        let devices = spec["devices"].as_array().unwrap().iter();
        devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    bed.create("--subnet=10.1.0.0/24 -o parent=eth0 san");
    assert_eq!(names(), ["pub_net", "san"]);
    // What is made by hand is a device when it is said.
    fs::copy(bed.path("etc/networks/san.json"), bed.path("etc/networks/odd_.json")).unwrap();
    bed.run("network rm san");
    assert_eq!(names(), ["pub_net"]);
    fs::rename(bed.path("etc/networks/odd_.json"), bed.path("etc/networks/5g.json")).unwrap();
    assert_eq!(bed.run("cdi"), format!("{}\n", path.display()));
    assert_eq!(
        (names(), bed.cdi().unwrap()["cdiVersion"].clone()),
        (vec!["5g".into(), "pub_net".into()], json!("0.5.0"))
    );

    bed.run("network rm 5g pub_net");
    assert!(!path.exists(), "no network, no file");
    let none = bed.outcome("cdi", "");
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    assert!(none.stderr.contains("there is no network to be a device"), "{none:?}");
}

/// A network is made all the same.
fn unwritable() {
    let bed = Bed::new();
    fs::create_dir(bed.path("cdi")).unwrap();
    fs::create_dir(bed.path("cdi/underlay.json")).unwrap();
    fs::write(bed.path("cdi/underlay.json/x"), "").unwrap();
    let made = bed.outcome("network create --subnet=10.1.0.0/24 -o parent=eth0 san", "");
    assert_eq!((made.code, made.stdout.as_str()), (0, "san\n"), "{made:?}");
    assert!(made.stderr.starts_with("underlay: warning: cannot write "), "{made:?}");
    assert!(made.stderr.contains("until `underlay cdi` succeeds"), "{made:?}");
    let failed = bed.outcome("cdi", "");
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{failed:?}");
    assert_eq!(bed.run("network ls -q"), "san\n");
}

/// Both, in every order of the hooks: attached once, what the annotation lists first.
fn devices_and_annotation() {
    let bed = bed();
    let refined = || bed.container(Bare, "web").networks("pub_net:ip=172.16.86.10,ifname=lan0");
    // The hook of hooks.d comes last, with podman, or not at all.
    for builder in [refined().device("san").device("pub_net"), refined().without_hooks().device("san")] {
        let web = builder.start().unwrap();
        assert_eq!(web.links(), ["lan0", "eth0"]);
        assert_eq!(web.addresses("lan0"), ["172.16.86.10/24"]);
        assert_eq!(web.addresses("eth0"), ["10.1.0.1/24"]);
        assert_eq!(bed.records().len(), 1);
        // Whoever comes late finds it done.
        for stage in ["createRuntime", "createRuntime --network san"] {
            let again = web.hook(stage);
            assert_eq!((again.code, again.stderr.as_str()), (0, ""), "{stage}");
        }
        assert_eq!(web.links(), ["lan0", "eth0"]);
        let bundle = web.bundle.clone();
        web.stop();
        bed.assert_nothing_held();
        let plan = bed.run(&format!("plan --bundle {}", bundle.display()));
        assert!(plan.starts_with("# lan0 in network pub_net, on eth0: 172.16.86.10/24"), "{plan}");
        assert!(plan.contains("\n# eth0 in network san, on eth0: 10.1.0."), "{plan}");
    }
    // An identity is asked for by annotation, the network by device.
    let named = || {
        let db =
            bed.container(Bare, "db").annotation("io.underlay.identity", "db").device("san").without_hooks();
        db.start().unwrap()
    };
    let first = named();
    let before = first.link("eth0")["address"].clone();
    assert_eq!(first.addresses("eth0"), ["10.1.0.2/24"]);
    first.stop();
    bed.assert_nothing_held();
    assert_eq!(named().link("eth0")["address"], before);
}

/// crun has been seen without a bundle (containers/crun#2025): the hook of one device cannot know of another then, and
/// the other one says so.
fn no_bundle() {
    let bed = bed();
    let web = bed.container(Bare, "web").without_hooks().start().unwrap();
    let state = web.state_at("createRuntime").replace(web.bundle.to_str().unwrap(), "/");
    let hook = |network: &str| bed.outcome(&format!("hook createRuntime --network {network}"), &state);
    for _ in 0..2 {
        let done = hook("san");
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    }
    let refused = hook("pub_net");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("the container was attached without network pub_net"), "{refused:?}");
    // The container dies with that, and keeps nothing of what another hook has given it.
    assert_eq!(web.links(), [""; 0]);
    bed.assert_nothing_held();
}

/// Devices obey the policy, and name networks that are there.
fn refused() {
    let bed = bed();
    let start =
        |name: &str| bed.container(Bare, "web").device("san").without_hooks().device(name).start().map(drop);
    bed.configure("underlay.json", r#"{"allowed_networks": ["pub_*"]}"#);
    let error = start("pub_net").unwrap_err();
    assert!(error.contains("allowed_networks: network san is not for containers here"), "{error}");
    bed.configure("underlay.json", r#"{"max_attachments": 1}"#);
    let error = start("pub_net").unwrap_err();
    assert!(
        error.contains("max_attachments: annotations and devices are 2 networks, and 1 are allowed"),
        "{error}"
    );
    bed.configure("underlay.json", "{}");
    bed.run("network rm pub_net");
    bed.create("--subnet=10.2.0.0/24 -o parent=eth0 --require-annotation team=web pub_net");
    let error = start("pub_net").unwrap_err();
    assert!(error.contains("required_annotations"), "{error}");
    let web = bed.container(Bare, "web").device("pub_net").without_hooks();
    assert_eq!(web.annotation("team", "web").start().unwrap().addresses("eth0"), ["10.2.0.1/24"]);
    bed.assert_nothing_held();
}

/// As an engine writes config.json: two hooks of each stage.
fn two_devices(engine: Engine) {
    let bed = bed();
    let web = bed.container(engine, "web").device("san").device("pub_net").without_hooks().start().unwrap();
    assert_eq!(
        (web.addresses("eth0"), web.addresses("eth1")),
        (vec!["10.1.0.1/24".into()], vec!["172.16.86.2/24".into()])
    );
    assert_eq!(web.routes("-4")[0], "default via 172.16.86.1 dev eth1");
    assert!(web.reaches("172.16.86.1"));
    let failing = bed.container(engine, "late").device("san").device("pub_net").without_hooks();
    failing.with_failing_hook().start().map(drop).unwrap_err();
    web.stop();
    bed.gc();
    bed.assert_nothing_held();
    assert!(bed.log().contains("attached web-"), "{}", bed.log());
}

/// podman by CDI alone, and with hooks.d besides; its CDI folder is the machine's.
fn podman() {
    let bed = bed();
    bed.run("network rm san");
    let name = format!("d{}", bed.host.name.replace('-', ""));
    bed.create(&format!("--subnet=10.1.0.0/24 -o parent=eth0 {name}"));
    bed.run("network rm pub_net");
    fs::create_dir_all("/etc/cdi").unwrap();
    let link = format!("/etc/cdi/{name}.json");
    symlink(bed.path("cdi/underlay.json"), &link).unwrap();
    let mut alone = bed.container(Podman, "alone").device(&name).without_hooks().start().unwrap();
    assert_eq!(alone.addresses("eth0"), ["10.1.0.1/24"]);
    alone.restart();
    assert_eq!(alone.addresses("eth0"), ["10.1.0.1/24"]);
    let both =
        bed.container(Podman, "both").device(&name).networks(&format!("{name}:ip=10.1.0.9")).start().unwrap();
    assert_eq!(both.links(), ["eth0"]);
    assert_eq!(both.addresses("eth0"), ["10.1.0.9/24"]);
    assert!(both.reaches("10.1.0.1"));
    assert_eq!(bed.records().len(), 2);
    alone.stop();
    both.stop();
    bed.assert_nothing_held();
    fs::remove_file(link).unwrap();
}
