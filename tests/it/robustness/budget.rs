//! What the hook may cost: its system calls are counted, so that nobody makes it slower without seeing it.

use nix::libc;

use crate::harness::bed::{Bed, binary};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::need::Need;
use crate::harness::test::Test;
use crate::harness::tracer::{steps, trace};

/// The system calls of an attach and of the poststop after it, from execve(2) on, process start and end included; those
/// of a container that asks for nothing. Five read which other networks there are, for what they set aside on the parent. Older kernels answer in more pieces, and C libraries begin differently.
const ATTACH: usize = 119;
const DETACH: usize = 73;
const UNANNOTATED: usize = 25;
/// Instructions of an attach and of a poststop outside of the kernel, as it is shipped.
const ATTACH_STEPS: u64 = 670_000;
const DETACH_STEPS: u64 = 410_000;
/// What an attach may make more where nearly all addresses are held.
const CROWDED: usize = 55;
/// What an attach by DHCP may make, whose server answers at once, and the poststop after it, which releases the lease itself.
const DHCP: (usize, usize) = (160, 132);
/// An attach among this many leases makes as many.
const LEASES: usize = 500;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("budget::system_calls", &[Need::Macvlan], system_calls),
        Test::new("budget::dhcp", &[Need::Macvlan, Kind::Dnsmasq.need()], dhcp).in_one(),
        Test::new("budget::a_crowded_pool", &[Need::Macvlan], crowded),
        Test::new("budget::instructions", &[Need::Macvlan, Need::Installed, Need::Guest], instructions)
            .alone(),
    ]
}

/// How many system calls the hook makes at `stage`.
fn count(bed: &Bed, container: &Container<'_>, stage: &str) -> usize {
    let mut count = 0;
    let traced =
        trace(&bed.underlay(&format!("hook {stage}")), container.state_at(stage).as_bytes(), |call| {
            match call.number {
                // nsenter(1) becomes the hook.
                libc::SYS_execve => count = 1,
                // Before each close(2), in debug builds.
                libc::SYS_fcntl if call.arguments[1] == u64::from(libc::F_GETFD.unsigned_abs()) => {}
                // A system call on machines alone whose clock cannot be read without.
                libc::SYS_clock_gettime => {}
                _ => count += 1,
            }
            None
        });
    assert_eq!(traced.code(), Some(0), "{traced:?}");
    count
}

fn system_calls() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off -o announcements=0");
    // The first one makes folders and files.
    bed.container(Bare, "first").networks("pub_net").start().unwrap().stop();
    no_longer_new(&bed);
    let once = |id: &str| {
        // Of a name that the host has too, older kernels want a link to be renamed.
        let mut web =
            bed.container(Bare, id).networks("pub_net:ifname=net0").without_hooks().start().unwrap();
        let attach = count(&bed, &web, "createRuntime");
        web.kill();
        (attach, count(&bed, &web, "poststop"))
    };
    // One attach in sixteen, by chance, looks for hints that are too many: not all of three.
    let least = |id: &str| {
        let all = [1, 2, 3].map(|number| once(&format!("{id}{number}")));
        (all.map(|one| one.0).into_iter().min().unwrap(), all.map(|one| one.1).into_iter().max().unwrap())
    };
    let (alone, detach) = least("web");
    assert!(alone <= ATTACH, "an attach makes {alone} system calls, {ATTACH} are allowed");
    assert!(detach <= DETACH, "a poststop makes {detach} system calls, {DETACH} are allowed");
    let segment = std::fs::read_dir(bed.path("run/segments")).unwrap().next().unwrap().unwrap().path();
    for number in 0..LEASES {
        let lease = segment.join(format!("10.7.{}.{}", number / 200, number % 200));
        std::os::unix::fs::symlink("../../containers/filler.json", lease).unwrap();
    }
    let (among, _) = least("next");
    assert!(
        among <= ATTACH,
        "an attach among {LEASES} leases makes {among} system calls, {ATTACH} are allowed"
    );
    let plain = bed.container(Bare, "plain").annotation("a", "b").without_hooks().start().unwrap();
    let nothing = count(&bed, &plain, "createRuntime");
    assert!(nothing <= UNANNOTATED, "one that asks for nothing takes {nothing}, {UNANNOTATED} are allowed");
    eprintln!("budget::system_calls: attach {alone}, detach {detach}, unannotated {nothing}");
}

fn dhcp() {
    let bed = Bed::new();
    bed.create("--ipam-driver dhcp -o parent=eth0 -o conflict_detection=off -o announcements=0 lan");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    bed.container(Bare, "first").networks("lan").start().unwrap().stop();
    no_longer_new(&bed);
    // How often it waits for the server is chance.
    let all = ["a", "b", "c"].map(|id| {
        let mut web = bed.container(Bare, id).networks("lan:ifname=net0").without_hooks().start().unwrap();
        let attach = count(&bed, &web, "createRuntime");
        web.kill();
        (attach, count(&bed, &web, "poststop"))
    });
    let least = |part: fn(&(usize, usize)) -> usize| all.iter().map(part).min().unwrap();
    let (attach, detach) = (least(|all| all.0), least(|all| all.1));
    eprintln!("budget::dhcp: attach {attach}, detach {detach}");
    assert!(attach <= DHCP.0, "an attach makes {attach} system calls, {} are allowed", DHCP.0);
    assert!(detach <= DHCP.1, "a poststop makes {detach} system calls, {} are allowed", DHCP.1);
}

/// Just after it was made, the folder of the lock file is locked too, as versions before do.
fn no_longer_new(bed: &Bed) {
    let file = std::fs::File::options().write(true).open(bed.path("run/lock")).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
}

/// The hook is called without options, as by engines: those take longer to read.
fn instructions() {
    // As the package's hooks are called: without words for folders. What other tests have left of the LAN is read with it.
    let bed = Bed::installed();
    let _ = std::fs::remove_dir_all("/run/underlay/segments");
    bed.create(
        "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 -o conflict_detection=off \
         -o announcements=0 pub_net",
    );
    bed.container(Bare, "first").networks("pub_net").start().unwrap().stop();
    let mut web = bed.container(Bare, "web").networks("pub_net:ifname=net0").without_hooks().start().unwrap();
    let count = |web: &Container<'_>, stage: &str| {
        let mut hook = bed.host.command(binary());
        steps(hook.args(["hook", stage]), web.state_at(stage).as_bytes())
    };
    let attach = count(&web, "createRuntime");
    assert_eq!(web.links(), ["net0"]);
    web.kill();
    let detach = count(&web, "poststop");
    bed.assert_nothing_held();
    assert!(attach <= ATTACH_STEPS, "an attach takes {attach} instructions, {ATTACH_STEPS} are allowed");
    assert!(detach <= DETACH_STEPS, "a poststop takes {detach} instructions, {DETACH_STEPS} are allowed");
    bed.run("network rm pub_net");
    eprintln!("budget::instructions: attach {attach}, detach {detach}");
}

/// The few free addresses of a pool are found without trying all, one after the other; also one that was given back, and
/// one of which the map does not know that it is free.
fn crowded() {
    let bed = Bed::new();
    bed.create("--subnet 10.3.0.0/22 -o parent=eth0 -o conflict_detection=off -o announcements=0 lan");
    let start =
        |id: &str| bed.container(Bare, id).networks("lan:ifname=net0").without_hooks().start().unwrap();
    bed.container(Bare, "first").networks("lan").start().unwrap().stop();
    let segment = std::fs::read_dir(bed.path("run/segments")).unwrap().next().unwrap().unwrap().path();
    let holes = ["10.3.1.77", "10.3.2.200", "10.3.3.5"];
    for number in 1..1023 {
        let address = format!("10.3.{}.{}", number / 256, number % 256);
        if !holes.contains(&address.as_str()) {
            std::os::unix::fs::symlink("../../containers/filler.json", segment.join(address)).unwrap();
        }
    }
    let attach = |id: &str| {
        let web = start(id);
        let calls = count(&bed, &web, "createRuntime");
        assert!(calls <= ATTACH + CROWDED, "{id}: {calls} system calls");
        let address = web.addresses("net0").remove(0);
        (web, address.trim_end_matches("/22").to_owned())
    };
    let [one, mut two, three] = ["one", "two", "three"].map(attach);
    assert_eq!([&one.1, &two.1, &three.1], holes);
    two.0.kill();
    assert!(count(&bed, &two.0, "poststop") <= DETACH + CROWDED);
    let four = attach("four");
    assert_eq!(four.1, two.1);
    std::fs::remove_file(segment.join("10.3.0.50")).unwrap();
    let five = start("five");
    assert_eq!(five.hook("createRuntime").code, 0);
    assert_eq!(five.addresses("net0"), ["10.3.0.50/22"]);
}
