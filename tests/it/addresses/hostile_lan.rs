//! Who answers for all addresses of a LAN, or sends as much as he can, is in the way for as long as he does.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::thread;

use nix::libc;
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use serde_json::Value;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::on_lan::{OnLan, heard_on};
use crate::harness::test::{Named, Test};
use crate::harness::tracer::{Mishap, trace};

pub fn tests() -> Vec<Test> {
    let all: [Named; 4] = [
        ("one_answers_for_all", &[Need::Macvlan], answers),
        ("set_free_by_hand", &[Need::Macvlan], by_hand),
        ("nobody_is_asked", &[Need::Macvlan], not_asked),
        ("a_flood", &[Need::Macvlan], flood),
    ];
    all.map(|(name, needs, run)| Test::new(format!("hostile_lan::{name}"), needs, run)).into()
}

const LIAR: &str = "02:ba:d0:00:00:01";
const LIARS_MAC: [u8; 6] = [2, 0xba, 0xd0, 0, 0, 1];

/// Answers every ARP probe.
fn liar(netns: &Netns) -> OnLan {
    OnLan::run(netns, |socket| {
        let mut frame = [0; 64];
        let Ok((42.., Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) else {
            thread::yield_now();
            return;
        };
        let is_probe = frame[12..14] == [8, 6] && frame[20..22] == [0, 1] && frame[28..32] == [0; 4];
        if is_probe && frame[6..12] != LIARS_MAC {
            let (asks, target) = (&frame[6..12], &frame[38..42]);
            let head = [asks, &LIARS_MAC[..], &frame[12..20], &[0, 2]].concat();
            let answer = [&head[..], &LIARS_MAC, target, asks, &[0; 4]].concat();
            let _ = sendto(socket.as_raw_fd(), &answer, &from, MsgFlags::empty());
        }
    })
}

/// A LAN with room for eight.
fn small() -> Bed {
    Bed::with_pub_net("macvlan", "--ip-range=172.16.86.8/29")
}

fn start(bed: &Bed, network: &str) -> Result<Vec<String>, String> {
    let web = bed.container(Bare, "web").networks(network).start()?;
    let addresses = web.addresses("eth0");
    web.stop();
    Ok(addresses)
}

/// As if what is set aside had been so for ten seconds, the later ones longer.
fn let_time_go(bed: &Bed) {
    let folder = fs::read_dir(bed.path("run/segments")).unwrap().next().unwrap().unwrap();
    let file = folder.path().join("segment.json");
    let mut segment: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (ago, entry) in segment["quarantine"].as_object_mut().unwrap().values_mut().enumerate() {
        entry["until"] = (entry["until"].as_u64().unwrap() - 10 - ago as u64).into();
    }
    fs::write(&file, segment.to_string()).unwrap();
}

fn set_aside(bed: &Bed) -> Value {
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    inspected[0]["quarantined_by"].clone()
}

fn doctors_word(bed: &Bed) -> Option<(String, String)> {
    let all: Vec<Value> = serde_json::from_str(&bed.outcome("doctor --format json", "").stdout).unwrap();
    let found = all.into_iter().find(|finding| finding["id"] == "quarantine")?;
    Some([&found["severity"], &found["what"]].map(|value| value.as_str().unwrap().to_owned()).into())
}

fn answers() {
    let bed = small();
    let liar = liar(&bed.lan);
    let told = format!(
        "network pub_net has no free IPv4 address left, and 8 are set aside, for others answered: 8 by {LIAR}"
    );
    for _ in 0..2 {
        let refused = start(&bed, "pub_net").unwrap_err();
        assert!(refused.contains(&told) && refused.contains("underlay gc --quarantine"), "{refused}");
        bed.assert_nothing_held();
        assert_eq!(set_aside(&bed), serde_json::json!({ LIAR: 8 }));
    }
    let what = format!("addresses in quarantine on eth0, because other hosts answered: 8 by {LIAR}");
    assert_eq!(doctors_word(&bed), Some(("warning".to_owned(), what)));
    // As long as it lies nobody gets one, and what is asked for again is set aside again.
    let_time_go(&bed);
    let refused = start(&bed, "pub_net").unwrap_err();
    assert!(refused.contains("set aside, for others answered: 8 by"), "{refused}");
    drop(liar);
    let_time_go(&bed);
    let the_oldest = "172.16.86.9/24";
    assert_eq!(start(&bed, "pub_net"), Ok(vec![the_oldest.to_owned()]));
    assert_eq!(set_aside(&bed), serde_json::json!({ LIAR: 7 }));
}

fn by_hand() {
    let bed = small();
    bed.lan.ip("addr add 172.16.86.8/32 dev lan0");
    assert_eq!(start(&bed, "pub_net"), Ok(vec!["172.16.86.9/24".to_owned()]));
    assert_eq!(set_aside(&bed).as_object().unwrap().len(), 1);
    assert_eq!(doctors_word(&bed).unwrap().0, "note");
    assert_eq!(bed.gc(), "");
    let plan = bed.run("gc --quarantine --dry-run");
    assert!(plan.starts_with("# the quarantine of 172.16.86.8 on link number "), "{plan}");
    assert_eq!(set_aside(&bed).as_object().unwrap().len(), 1, "a dry run does nothing");
    assert_eq!(bed.run("gc --quarantine"), plan);
    assert_eq!((set_aside(&bed), doctors_word(&bed)), (Value::Null, None));
    assert_eq!(bed.run("gc --quarantine"), "");
}

/// Without a question to the LAN nobody knows that an address is free by now.
fn not_asked() {
    let bed = small();
    let range = "--subnet=172.16.86.0/24 --ip-range=172.16.86.8/32 -o parent=eth0";
    bed.create(&format!("{range} asks"));
    bed.create(&format!("{range} -o conflict_detection=off blind"));
    bed.lan.ip("addr add 172.16.86.8/32 dev lan0");
    start(&bed, "asks").unwrap_err();
    bed.lan.ip("addr del 172.16.86.8/32 dev lan0");
    let_time_go(&bed);
    let refused = start(&bed, "blind").unwrap_err();
    assert!(refused.contains("and 1 is set aside"), "{refused}");
    assert_eq!(start(&bed, "asks"), Ok(vec!["172.16.86.8/24".to_owned()]));
}

/// Frames that come faster than they are read: the time that was set is over all the same.
fn flood() {
    let bed = Bed::with_pub_net("macvlan", "");
    let socket = heard_on(&bed.lan);
    let mac = [2, 0, 0, 0, 0, 0x77];
    // An answer from 203.0.113.9, for which nobody has asked.
    let head = [&mac[..], &LIARS_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &LIARS_MAC].concat();
    let frame = [&head[..], &[203, 0, 113, 9], &mac, &[203, 0, 113, 9], &[0; 18]].concat();
    let asked = "pub_net:mac=02:00:00:00:00:77";
    let web = bed.container(Bare, "web").networks(asked).without_hooks().start().unwrap();
    let mut to: Option<LinkAddr> = None;
    let mut sent = 0;
    let hook = bed.underlay("hook createRuntime");
    let traced = trace(&hook, web.state_at("createRuntime").as_bytes(), |call| {
        // The address of the link comes with the first frame, which is a probe.
        to = to.or_else(|| recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut [0; 64]).ok()?.1);
        if let (libc::SYS_recvfrom, Some(to)) = (call.number, &to) {
            // Before one is read there are two more.
            for _ in 0..2 {
                sent += usize::from(sendto(socket.as_raw_fd(), &frame, to, MsgFlags::empty()).is_ok());
            }
        }
        (call.count > 40_000).then_some(Mishap::Kill)
    });
    assert_eq!(traced.code(), Some(0), "{traced:?}");
    assert!(sent > 100, "{sent} frames were sent");
    assert_eq!(web.addresses("eth0"), ["172.16.86.2/24"]);
}
