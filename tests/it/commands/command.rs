//! The commands: what they print, and how they fail.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::bed::Bed;
use crate::harness::container::Engine::Bare;
use crate::harness::container::repository;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 15] = [
        ("network", &[Need::Macvlan], network),
        ("network_create_refuses", &[Need::Macvlan], create_refuses),
        ("words_that_are_refused", &[], words),
        ("words_of_podman_and_docker", &[Need::Macvlan], words_of_others),
        ("parts_of_hosts", &[Need::Macvlan], parts_of_hosts),
        ("network_rm", &[Need::Macvlan], remove),
        ("networks_of_one_parent", &[Need::Macvlan], networks_of_one_parent),
        ("network_complete", &[Need::Macvlan], complete),
        ("usage", &[Need::Macvlan], usage),
        ("inspect", &[Need::Macvlan], inspect),
        ("the_lock_is_not_waited_for_for_ever", &[Need::Macvlan], lock),
        ("the_lock_is_for_writers", &[Need::Macvlan], lock_of_readers),
        ("leases_of_the_lock", &[Need::Macvlan, Need::Tool("perl")], leases),
        ("leases_of_all_files", &[Need::Macvlan, Need::Tool("perl")], leases_of_all),
        ("hooks_d", &[], hooks_d),
    ];
    all.map(|(name, needs, run)| Test::new(format!("command::{name}"), needs, run)).into()
}

/// What people type who know podman and Docker.
fn words_of_others() {
    let bed = Bed::new();
    bed.run("network create --interface-name eth0 --disable-dns --attachable --scope local --subnet 10.7.0.0/24 lan");
    assert!(
        bed.run("network list").contains("lan   macvlan mode bridge  eth0    10.7.0.0/24"),
        "{}",
        bed.run("network list")
    );
    assert_eq!(bed.run("network create --ignore --subnet 10.8.0.0/24 -o parent=eth0 lan"), "lan\n");
    assert!(!bed.run("network ls").contains("10.8.0.0/24"), "it stays as it is");
    assert_eq!(bed.run("network remove lan"), "lan\n");
    // Options of all commands, wherever they stand.
    let config = bed.path("etc");
    let listed = bed.underlay("network ls --config-dir").arg(&config).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    for (options, said) in [
        ("--interface-name eth0 -o parent=eth1 x", "option parent: is given twice, and differs"),
        (
            "-o macvlan_mode=bridge -o mode=private -o parent=eth0 x",
            "option mode: is given twice, and differs",
        ),
        ("--label a=1 --label a=2 -o parent=eth0 x", "label a is given twice"),
        ("-o parent= x", "option parent: names no link"),
        ("--scope swarm -o parent=eth0 x", "invalid value 'swarm' for '--scope <SCOPE>'"),
        ("--ip-range=10.7.0.10 -o parent=eth0 x", "write a CIDR block"),
        ("--subnet=10.7/16 -o parent=eth0 x", "write 192.0.2.0/24"),
        ("--subnet=2001:db8:1::/64 --gateway=fe80::1 -o parent=eth0 x", "--onlink-gateway fe80::1"),
        ("-o parent=eth0 a/b", "hint: "),
    ] {
        let refused = bed.outcome(&format!("network create {options}"), "");
        assert!(refused.code != 0 && refused.stderr.contains(said), "{options}: {refused:?}");
    }
}

/// Three hosts on one LAN, each with a ledger of its own, of which none knows what the others give.
fn parts_of_hosts() {
    let beds = [Bed::new(), Bed::new(), Bed::new()];
    let mut all = Vec::new();
    for (index, bed) in beds.iter().enumerate() {
        let number = index + 1;
        bed.create(&format!(
            "--subnet=10.7.0.0/24 --ip-range=10.7.0.64-10.7.0.73 --subnet=2001:db8:7::/64 --host-number {number} --of 3 \
             -o parent=eth0 lan"
        ));
        let web = bed.container(Bare, "web").networks("lan").start().unwrap();
        let addresses = web.addresses("eth0");
        all.push(addresses.into_iter().filter(|address| !address.starts_with("fe80")).collect::<Vec<_>>());
        let shown: Value = serde_json::from_str(&bed.run("network inspect lan")).unwrap();
        let free = [4, 3, 3][index] - 1;
        assert_eq!(shown[0]["usage"][0]["free"], free, "{shown}");
        web.stop();
    }
    let v4: Vec<_> = all.iter().map(|addresses| &*addresses[0]).collect();
    assert_eq!(v4, ["10.7.0.64/24", "10.7.0.68/24", "10.7.0.71/24"]);
    let v6: BTreeSet<_> = all.iter().map(|addresses| &addresses[1]).collect();
    assert_eq!(v6.len(), 3, "{v6:?}");
    for (options, said) in [
        (
            "--subnet=10.8.0.0/30 --host-number 1 --of 5",
            "10.8.0.0-10.8.0.3 has 4 addresses, which are too few for 5 hosts",
        ),
        ("--subnet=10.8.0.0/24 --host-number 5 --of 4", "there is no host number 5 of 4"),
        ("--subnet=10.8.0.0/24 --host-number 0 --of 4", "there is no host number 0 of 4"),
        ("--subnet=10.8.0.0/24 --host-number 1", "--of <HOSTS>"),
    ] {
        let refused = beds[0].outcome(&format!("network create {options} -o parent=eth0 other"), "");
        assert!(refused.code != 0 && refused.stderr.contains(said), "{refused:?}");
    }
}

fn network() {
    let bed = Bed::new();
    assert_eq!(bed.run("network ls"), "NAME  DRIVER  PARENT  SUBNETS\n");
    let create =
        "network create -d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net";
    assert_eq!(bed.run(create), "pub_net\n");
    bed.create("-d ipvlan --subnet=10.0.0.0/24 --subnet=10.0.1.0/24 -o parent=eth0 --internal ip_net");
    assert_eq!(
        bed.run("network ls"),
        "NAME     DRIVER                 PARENT  SUBNETS\n\
         ip_net   ipvlan mode l2 bridge  eth0    10.0.0.0/24,10.0.1.0/24\n\
         pub_net  macvlan mode bridge    eth0    172.16.86.0/24\n"
    );
    assert_eq!(bed.run("network ls -q"), "ip_net\npub_net\n");
    let listed: Value = serde_json::from_str(&bed.run("network ls --format json")).unwrap();
    assert_eq!(listed[0]["internal"], true);

    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let inspected: Value =
        serde_json::from_str(&bed.run("network inspect pub_net ip_net --format json")).unwrap();
    assert_eq!(
        inspected[0],
        json!({
            "version": 1, "name": "pub_net", "driver": "macvlan", "parent": "eth0", "macvlan_mode": "bridge",
            "parent_link": {"name": "eth0", "state": "up", "made_by_underlay": false, "mtu": 1500},
            // Its network and broadcast address, the gateway, the host and the container.
            "usage": [{"subnet": "172.16.86.0/24", "in_use": 5, "free": 251}],
            "internal": false, "subnets": [{"subnet": "172.16.86.0/24", "gateway": "172.16.86.1"}],
            "quarantine": [],
            "containers": [{
                "container": container.id, "ifname": "eth0", "addresses": ["172.16.86.2/24"],
                "mac": container.link("eth0")["address"], "alive": true,
            }],
        })
    );
    assert_eq!(inspected[1]["containers"], json!([]));
    // What `create` writes is what people write: readable by all, and the same when it is read again.
    let path = bed.path("etc/networks/pub_net.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    let mut definition = inspected[0].clone();
    for shown_only in ["containers", "parent_link", "quarantine", "usage"] {
        definition.as_object_mut().unwrap().remove(shown_only);
    }
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap(), definition);
}

fn create_refuses() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.host.ip("link add br0 type bridge");
    bed.host.ip("link add port0 type veth peer name port1");
    bed.host.ip("link set port0 master br0");
    for (arguments, message) in [
        (
            "-o parent=eth0 pub_net",
            "network pub_net exists already\nhint: see it with `underlay network inspect pub_net`; `underlay network rm pub_net` removes it",
        ),
        (
            "-o parent=eth9 n",
            "network n: parent eth9 does not exist on this host\nhint: see the host's links",
        ),
        ("-o parent=lo n", "parent lo is a loopback link"),
        (
            "-o parent=eth0 -o dhcp_servers=router n",
            "option dhcp_servers: \"router\" is no IPv4 address\nhint: name the servers by their addresses",
        ),
        ("-o parent=port0 n", "parent port0 is a port of a bridge\nhint: use the bridge itself as parent"),
        ("-o parent=eth0 -o mtu=9000 n", "mtu 9000 of network n is above the 1500 of parent eth0"),
        (
            "-o parent=eth0 --subnet 10.0.0.1/24 n",
            "subnet 10.0.0.1/24 has host bits set\nhint: write 10.0.0.0/24",
        ),
        ("-o parent=eth0.5000 n", "parent eth0.5000: 5000 is not a VLAN id\nhint: use 1 to 4094"),
        ("-o parent=eth9.5 n", "network n: parent eth9 does not exist on this host"),
        ("-o parent=enx001122334455.100 n", "interface name \"enx001122334455.100\" is not usable"),
    ] {
        let outcome = bed.outcome(&format!("network create {arguments}"), "");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{arguments}");
        assert!(outcome.stderr.contains(message), "{arguments}: {outcome:?}");
    }
    assert_eq!(bed.run("network ls -q"), "pub_net\n");
    bed.create("-o parent=br0 on_a_bridge");
    let files = fs::read_dir(bed.path("etc/networks")).unwrap().count();
    assert_eq!(files, 2, "no half-written file is left");
}

/// What clap refuses says what is possible.
fn words() {
    let bed = Bed::new();
    for (arguments, hint) in [
        ("network create --ipam-driver dhpc n", "(hint: use one of: ledger dhcp none)"),
        ("resolv-conf a/b", "(hint: use 1 to 200 letters, digits and _ + . -)"),
    ] {
        let outcome = bed.outcome(arguments, "");
        assert!(outcome.code == 2 && outcome.stderr.contains(hint), "{outcome:?}");
    }
}

/// What would fail when the containers of two networks meet is said when the second is created.
fn networks_of_one_parent() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("-o parent=eth0 -o macvlan_mode=private --subnet=172.16.86.0/24 too");
    for (arguments, message) in [
        ("-o macvlan_mode=passthru", "passthru network n wants parent eth0 to itself, not beside pub_net"),
        ("-d ipvlan -o ipvlan_mode=l3", ""),
    ] {
        let outcome = bed.outcome(&format!("network create {arguments} -o parent=eth0 n"), "");
        if message.is_empty() {
            assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "n\n"));
            assert!(
                outcome.stderr.contains("warning: network pub_net on parent eth0 has driver macvlan"),
                "{outcome:?}"
            );
        } else {
            assert_eq!(outcome.code, 1);
            assert!(outcome.stderr.contains(message), "{outcome:?}");
        }
    }
    let outcome = bed.outcome("network create -d ipvlan -o parent=eth0 m", "");
    let message = "network n on parent eth0 is ipvlan mode l3 bridge, so m cannot be ipvlan mode l2 bridge";
    assert!(outcome.code == 1 && outcome.stderr.contains(message), "{outcome:?}");
    bed.run("network rm n too pub_net");
    bed.create("-o parent=eth0 -o macvlan_mode=passthru alone");
    let outcome = bed.outcome("network create -o parent=eth0 m", "");
    let message = "passthru network alone wants parent eth0 to itself, not beside m";
    assert!(outcome.code == 1 && outcome.stderr.contains(message), "{outcome:?}");
}

fn complete() {
    let bed = Bed::with_pub_net(
        "macvlan",
        "--ip-range=172.16.86.128/29 --aux-address=a=172.16.86.129 --aux-addresses b=172.16.86.9 \
         --label owner=me --label alone -o bclim=-1 --ipv6 --subnet=2001:db8::/64",
    );
    let container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(container.addresses("eth0"), ["172.16.86.128/24", "2001:db8::1/64"]);
    let second = bed.container(Bare, "second").networks("pub_net").start().unwrap();
    assert_eq!(second.addresses("eth0")[0], "172.16.86.130/24", ".129 is set aside");
    let outcome = bed.container(Bare, "third").networks("pub_net:ip=172.16.86.9").start().map(drop);
    assert!(outcome.unwrap_err().contains("address 172.16.86.9 is an aux address of subnet"));
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    let shown = &inspected[0];
    assert_eq!(shown["labels"], json!({"owner": "me", "alone": ""}));
    assert_eq!(shown["subnets"][0]["aux_addresses"], json!({"a": "172.16.86.129", "b": "172.16.86.9"}));
    // Its network and broadcast address, gateway, host, two aux addresses, two containers.
    assert_eq!(shown["usage"][0], json!({"subnet": "172.16.86.0/24", "in_use": 8, "free": 5}));
    assert_eq!(shown["containers"].as_array().unwrap().len(), 2);
}

fn remove() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("-o parent=eth0 other");
    let mut container = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let outcome = bed.outcome("network rm nothing pub_net other", "");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, "other\n"));
    assert!(outcome.stderr.contains("network nothing does not exist"), "{outcome:?}");
    assert!(outcome.stderr.contains("network pub_net is in use by container web-"), "{outcome:?}");
    // A network whose containers are dead is not in use.
    container.kill();
    assert_eq!(bed.run("network rm --force nothing pub_net"), "pub_net\n");
    bed.assert_nothing_held();
}

fn usage() {
    let bed = Bed::new();
    for (arguments, message) in [
        ("", "Usage: underlay"),
        ("netwrok ls", "unrecognized subcommand 'netwrok'"),
        ("hook poststart", "[possible values: createRuntime, poststop]"),
        ("network create -d bridge n", "unknown driver \"bridge\""),
        ("network create -o parent=eth0 --subnets=10.0.0.0/8 n", "unexpected argument '--subnets' found"),
        ("network create -o parnet=eth0 n", "option \"parnet\" is not known\nhint: use parent, vlan, vlans"),
        ("network create a/b", "network name \"a/b\" is not usable"),
        ("network rm", "required arguments were not provided"),
        ("ps --format yaml", "[possible values: table, json]"),
    ] {
        let outcome = bed.outcome(arguments, "");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{arguments}: {outcome:?}");
        assert!(outcome.stderr.contains(message), "{arguments}: {outcome:?}");
    }
    assert!(bed.run("--version").starts_with("underlay "));
    assert!(bed.run("--help").contains("network"));
    // The environment names the folders too; flags win.
    let mut command = bed.host.command(crate::harness::bed::binary());
    command.envs(bed.variables()).args(["network", "create", "-o", "parent=eth0", "by_environment"]);
    crate::harness::bed::finish(&mut command).unwrap();
    assert_eq!(bed.run("network ls -q"), "by_environment\n");
    assert_eq!(bed.device("by_environment")["name"], "by_environment");
}

fn inspect() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let _webber = bed.container(Bare, "webber").networks("pub_net").start().unwrap();
    let inspect = |id: &str| bed.outcome(&format!("inspect {id}"), "");
    assert!(inspect("web-").stdout.contains("172.16.86.2/24"), "the beginning of an id is enough");
    assert_eq!(serde_json::from_str::<Value>(&inspect(&web.id).stdout).unwrap()["container"], web.id);
    assert!(inspect("web").stderr.contains("there are several containers \"web\""));
    let said = inspect("wob").stderr;
    assert!(said.contains("container \"wob\" holds nothing here"), "{said}");
    assert!(said.contains("`podman inspect -f '{{.Id}}' wob`"), "{said}");
    assert_eq!(inspect("wob").code, 1);
}

fn lock() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", r#"{"lock_timeout_ms": 50}"#);
    let held = bed.lock();
    let error = bed.container(Bare, "web").networks("pub_net").start().map(drop).unwrap_err();
    let own = format!("run was locked by pid {} (", std::process::id());
    assert!(error.contains(&own) && error.contains(") for 50 ms\nhint: see what it is doing"), "{error}");
    drop(held);
    bed.container(Bare, "web").networks("pub_net").start().unwrap();
}

/// Who can only read the state folder holds up no hook: neither by a lock of the folder, nor by a read lock of the file.
fn lock_of_readers() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", r#"{"lock_timeout_ms": 3000}"#);
    let mut first = bed.container(Bare, "first").networks("pub_net").start().unwrap();
    let folder = fs::File::open(bed.path("run")).unwrap();
    fs2::FileExt::lock_exclusive(&folder).unwrap();
    let file = fs::File::open(bed.path("run/lock")).unwrap();
    let lock = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    web.kill();
    assert_eq!(web.hook("poststop").code, 0);
    bed.create("-o parent=eth0 other");
    first.kill();
    let stopped = first.hook("poststop");
    assert_eq!(stopped.code, 0, "{stopped:?}");
    bed.assert_nothing_held();
}

/// A process that has a lease on `file` (`F_SETLEASE`, fcntl(2)) and takes no notice when it is asked to give it up.
fn lease(file: &Path, kind: i32) -> Child {
    const PROGRAM: &str = r#"$SIG{IO} = "IGNORE"; open F, "<", $ARGV[0];
        fcntl(F, 1024, $ARGV[1] + 0) or die $!; $| = 1; print "has it\n"; <STDIN>"#;
    let mut command = Command::new("perl");
    command.args(["-e", PROGRAM]).arg(file).arg(kind.to_string());
    let mut reader = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(reader.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "has it\n");
    reader
}

/// Nor does who has a lease of the file, which holds up who opens it to write, or at all.
fn leases() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.configure("underlay.json", r#"{"lock_timeout_ms": 3000}"#);
    bed.container(Bare, "first").networks("pub_net").start().unwrap().stop();
    for (file, kind, next) in
        [("lock", nix::libc::F_RDLCK, "lock.1"), ("lock.1", nix::libc::F_WRLCK, "lock.2")]
    {
        let mut reader = lease(&bed.path("run").join(file), kind);
        assert!(!bed.path("run").join(next).exists());
        bed.container(Bare, "web").networks("pub_net").start().unwrap().stop();
        assert!(bed.path("run").join(next).exists());
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    bed.assert_nothing_held();
}

/// Leases on all files of the ledger, for which only the right to read them is needed: nobody but whose they are comes to
/// harm, and all is as before when they are given up.
fn leases_of_all() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("--subnet=10.9.0.0/24 --host-access -o parent=eth0 lan");
    let one = bed.container(Bare, "one").networks("pub_net").start().unwrap();
    let two = bed.container(Bare, "two").networks("lan").start().unwrap();
    let before = (bed.ps(), bed.leases(), bed.host_state());
    let run = bed.path("run");
    let files = [
        format!("containers/{}.json", one.id),
        format!("containers/{}.json", two.id),
        "host_links/lan.json".to_owned(),
        "events".to_owned(),
        format!("segments/{}/segment.json", bed.leases()[0].split('/').next().unwrap()),
    ];
    let readers = files.each_ref().map(|file| lease(&run.join(file), nix::libc::F_WRLCK));
    let refused = bed.container(Bare, "four").networks("lan").start().err().unwrap();
    let why = format!("cannot read {}", run.join("host_links/lan.json").display());
    assert!(refused.contains(&why) && refused.contains("lslocks"), "{refused}");
    let three = bed.container(Bare, "three").networks("pub_net").start().unwrap();
    let told = bed.outcome("ps", "");
    assert!(told.code == 0 && told.stdout.contains(&three.id) && told.stderr.contains(&one.id), "{told:?}");
    three.stop();
    for command in ["gc", "boot"] {
        let told = bed.outcome(command, "");
        assert_eq!((told.code, &*told.stdout), (0, ""), "{command}: {told:?}");
    }
    assert!(bed.outcome("check", "").stdout.contains(&one.id));
    for mut reader in readers {
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    assert_eq!((bed.gc(), bed.run("check")), Default::default());
    assert_eq!((bed.ps(), bed.leases(), bed.host_state()), before);
    one.stop();
    two.stop();
    bed.run("network rm lan");
    bed.assert_nothing_held();
}

/// The files that podman and CRI-O read: schema 1.0.0, for our annotation alone, with a time limit.
fn hooks_d() {
    for stage in ["createRuntime", "poststop"] {
        let path = repository().join("hooks.d").join(format!("underlay-{stage}.json"));
        let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(file["version"], "1.0.0");
        assert_eq!(file["stages"], json!([stage]));
        assert_eq!(file["hook"]["args"], json!(["underlay", "hook", stage]));
        assert_eq!(file["hook"]["path"], "/usr/bin/underlay");
        assert!(file["hook"]["timeout"].as_u64().unwrap() >= 10);
        // Any key of ours, so that a mistyped one is refused; an empty value matches too.
        assert_eq!(file["when"], json!({"annotations": {r"^io\.underlay\.": "(?s)^.*$"}}));
    }
}
