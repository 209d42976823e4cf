//! What an attach makes the processor do, with all that comes after it: the hook, and the agent's announcements and questions.

use std::thread::sleep;
use std::time::Duration;

use crate::cases::record;
use crate::container::Container;
use crate::lan::ifindex;
use crate::measure::{Cost, Job};
use crate::starts::{Agent, Bench, PARENT, WARM_UP, agent, in_turn, program, used};

/// When the agent has sent its last announcement.
const DONE: Duration = Duration::from_millis(2300);

pub const ATTACH: &str = "attach: hook and agent";
pub const AGENT: &str = "attach: the agent's part";
pub const RAW: &str = "attach: raw netlink";
pub const EMPTY: &str = "empty program";

impl Bench {
    /// Attaches and the same work by raw netlink, in turns, one container at a time.
    pub fn attaches(&mut self) {
        let raw = format!("macvlan PID {} 10.201.250.9/16 10.201.0.1", ifindex(PARENT));
        for number in 0..WARM_UP + self.rounds {
            for name in in_turn(&[ATTACH, RAW, EMPTY], number) {
                let networks = if *name == ATTACH { "lan" } else { "" };
                let mut container = Container::new(&self.folder, &format!("attach-{number}"), networks);
                let job = match *name {
                    ATTACH => Job::new("underlay hook createRuntime").stdin(container.state("created")),
                    RAW => {
                        let pid = container.pid().to_string();
                        Job::new(&format!("{} {}", program("raw"), raw.replace("PID", &pid)))
                    }
                    _ => Job::new(&program("empty")),
                };
                let (begin, by_agent) = (used(), Agent::used());
                let wall = job.run().wall;
                sleep(DONE);
                agent::wait_until_done();
                let (cpu, by_agent) = (used() - begin, Agent::used() - by_agent);
                container.end();
                if *name == ATTACH {
                    Job::new("underlay hook poststop").stdin(container.state("stopped")).run();
                }
                if number >= WARM_UP {
                    record(&mut self.results, name, Cost { wall, cpu, memory: 0 });
                    if *name == ATTACH {
                        record(&mut self.results, AGENT, Cost { wall: 0, cpu: by_agent, memory: 0 });
                    }
                }
                self.settle();
            }
            eprintln!("bench: attaches, round {number} of {}", WARM_UP + self.rounds);
        }
    }
}
