//! What `make demo` shows.

use std::process::Command;

use crate::harness::bed::{binary, finish};
use crate::harness::container::{Engine, repository};
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let test = |engine| {
        let needs = [Need::Macvlan, Need::Engine(engine)];
        Test::new(format!("demo::{engine}"), &needs, move || walk(engine))
    };
    [Engine::Crun, Engine::Podman].map(test).into()
}

fn walk(engine: Engine) {
    let mut command = Command::new(repository().join("tests/demo-walk"));
    let shown = finish(command.arg(engine.program()).arg(binary())).unwrap();
    let (running, stopped) = shown.split_once("# Both stop").expect("the containers ran");
    for line in [
        "4 packets transmitted, 4 packets received, 0% packet loss",
        "    inet 172.16.86.10/24 brd 172.16.86.255 scope global eth0",
        "default via 172.16.86.1 dev eth0 ",
        "172.16.86.0/24 dev eth0 scope link  src 172.16.86.10 ",
    ] {
        assert!(running.lines().any(|shown| shown == line), "{line:?} is not in\n{shown}");
    }
    assert_eq!(running.matches("macvlan@eth0").count(), 2, "{shown}");
    assert!(!stopped.contains("172.16.86"), "{shown}");
    assert!(stopped.contains("# Done."), "{shown}");
}
