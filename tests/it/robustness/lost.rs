//! The ledger is lost while containers live: what they have stays theirs, also where nobody can say whose it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use crate::harness::bed::{Bed, Netns, outcome};
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::host_access::host_access;

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("the_first_of_a_pod_has_ended", &[Need::Macvlan], pod),
        ("an_address_that_the_container_has_added", &[Need::Macvlan], added),
        ("the_key_is_not_believed", &[Need::Macvlan], without_key),
        ("a_damaged_record_without_a_key", &[Need::Macvlan], damaged_without_key),
        ("what_boot_has_made", &[Need::Macvlan], kept),
        ("the_first_thread_has_ended", &[Need::Macvlan, Need::Tool("perl")], first_thread),
    ];
    all.map(|(name, needs, run)| Test::new(format!("lost::{name}"), needs, run)).into()
}

fn lose(bed: &Bed) {
    fs::remove_dir_all(bed.path("run")).unwrap();
}

/// What the host has of `container`: its routes, and the link they lead by.
fn reached(bed: &Bed, container: &Container<'_>) -> (usize, bool) {
    let own = container.addresses("eth0")[0].replace("/24", " ");
    let routes = host_access::routes(bed);
    (routes.iter().filter(|route| route.starts_with(&own)).count(), bed.host.link("ulh-pub_net").is_some())
}

/// The mark names a process that is gone; others live in the namespace.
fn pod() {
    for first_to_see in ["gc", "boot", "an attach", "a third of the pod"] {
        let bed = Bed::with_pub_net("macvlan", "--host-access");
        let pod = Netns::new("pod");
        let start = |id| bed.container(Bare, id).networks("pub_net").in_netns(pod.path()).start().unwrap();
        let (first, second) = (start("first"), start("second"));
        first.stop();
        let before = (second.ip("addr"), host_access::routes(&bed));
        lose(&bed);
        let third = match first_to_see {
            "an attach" => Some(bed.container(Bare, "third").networks("pub_net").start().unwrap()),
            "a third of the pod" => Some(start("third")),
            command => {
                bed.run(command);
                None
            }
        };
        assert_eq!(second.ip("addr"), before.0, "{first_to_see}");
        third.into_iter().for_each(Container::stop);
        bed.gc();
        assert_eq!((bed.gc(), bed.run("check")), Default::default(), "{first_to_see}");
        assert_eq!((second.ip("addr"), host_access::routes(&bed)), before, "{first_to_see}");
        assert_eq!(bed.leases().len(), 2, "its own, and the host's");
    }
}

/// The host had no route to an address that the container has given itself, and gets none; the others stay.
fn added() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let before = (bed.ps()[0]["attachments"][0]["addresses"].clone(), host_access::routes(&bed));
    web.run("ip", "addr add 172.16.86.99/24 dev eth0");
    lose(&bed);
    bed.gc();
    assert_eq!((bed.gc(), bed.run("boot")), Default::default());
    assert_eq!((bed.ps()[0]["attachments"][0]["addresses"].clone(), host_access::routes(&bed)), before);
    web.stop();
    assert!(bed.host.link("ulh-pub_net").is_none());
}

/// Marks prove nothing for now: nothing is taken from whoever may have made them, and no network is removed.
fn without_key() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let open = |mode| fs::set_permissions(bed.path("data"), fs::Permissions::from_mode(mode)).unwrap();
    open(0o755);
    lose(&bed);
    for command in ["gc --dry-run", "gc", "boot"] {
        let told = bed.outcome(command, "");
        assert!(
            told.code == 0 && told.stderr.contains("not all containers are found"),
            "{command}: {told:?}"
        );
        assert!(!told.stdout.contains("del"), "{command}: {told:?}");
        assert_eq!(reached(&bed, &web), (1, true), "{command}");
    }
    // Somebody who comes and goes takes nothing along.
    bed.container(Bare, "other").networks("pub_net").start().unwrap();
    assert_eq!(reached(&bed, &web), (1, true));
    let refused = bed.outcome("network rm pub_net", "");
    assert!(refused.code == 1 && refused.stderr.contains("not all containers are found"), "{refused:?}");
    open(0o700);
    bed.gc();
    assert_eq!((bed.gc(), bed.run("check")), Default::default());
    assert_eq!((reached(&bed, &web), bed.records()), ((1, true), vec![format!("{}.json", web.id)]));
    web.stop();
    assert!(bed.host.link("ulh-pub_net").is_none(), "nothing is in doubt any more");
    bed.run("network rm pub_net");
}

/// A record that cannot be read is not removed while a mark, proven or not, may be that of its container.
fn damaged_without_key() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let record = bed.path("run/containers").join(format!("{}.json", web.id));
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    fs::set_permissions(bed.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
    bed.outcome("gc", "");
    assert!(record.exists() && bed.leases().len() == 1, "{:?}", bed.leases());
    let other = bed.container(Bare, "other").networks("pub_net").start();
    assert_ne!(other.unwrap().addresses("eth0"), web.addresses("eth0"));
    fs::write(&record, whole).unwrap();
}

/// The host's link that `boot` has made stays, with or without containers.
fn kept() {
    let bed = Bed::with_pub_net("macvlan", "--host-access=172.16.86.9");
    bed.run("boot");
    let link = bed.host.link("ulh-pub_net");
    assert!(link.is_some());
    lose(&bed);
    bed.gc();
    assert_eq!((bed.gc(), bed.host.link("ulh-pub_net")), (String::new(), link.clone()));
    bed.container(Bare, "web").networks("pub_net").start().unwrap().stop();
    assert_eq!(bed.host.link("ulh-pub_net"), link);
}

/// A process whose first thread has ended (pthread_exit(3)) is no dead one: `/proc/PID/stat` calls it a zombie, and its
/// namespaces are those of its other threads.
fn first_thread() {
    const PROGRAM: &str = "use threads; <STDIN>; threads->create(sub { sleep 1000 }); syscall(60, 0)";
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let mut command = bed.host.command("unshare");
    command.args(["--net", "perl", "-e", PROGRAM]).stdin(Stdio::piped());
    let mut child: Child = command.spawn().unwrap();
    let pid = child.id() as i32;
    wait(|| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "perl\n"));
    let web = Container::of_another(&bed, format!("threads-{}", bed.host.name), pid);
    let bundle = bed.path("threads");
    fs::create_dir_all(&bundle).unwrap();
    let config =
        r#"{"ociVersion": "1.0.2", "annotations": {"io.underlay.networks": "pub_net"}, "linux": {}}"#;
    fs::write(bundle.join("config.json"), config).unwrap();
    let state = |status: &str| {
        serde_json::json!({
            "ociVersion": "1.0.2", "id": web.id, "pid": pid, "status": status, "bundle": bundle,
        })
        .to_string()
    };
    let attached = outcome(&mut bed.underlay("hook createRuntime"), state("creating").as_bytes());
    assert_eq!(attached.code, 0, "{attached:?}");
    drop(child.stdin.take());
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait(|| stat().contains(") Z "));
    let before = (bed.leases(), host_access::routes(&bed));
    assert_eq!((bed.gc(), bed.run("check")), Default::default());
    assert_eq!((bed.leases(), host_access::routes(&bed)), before);
    lose(&bed);
    bed.gc();
    assert_eq!((bed.leases(), host_access::routes(&bed)), before);
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    child.wait().unwrap();
    bed.gc();
    assert!(host_access::routes(&bed).is_empty());
}
