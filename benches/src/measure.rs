//! Runs a program and says what it cost.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A program to run.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub words: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Vec<u8>,
}

/// What a run cost: in the guest with its instruction clock, 1 ns is one instruction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From before the fork to after the wait, with all waiting.
    pub wall: u64,
    /// User and system time of the process and those it has waited for.
    pub cpu: u64,
    /// The peak of resident memory, in kB.
    pub memory: u64,
}

impl Job {
    pub fn new(words: &str) -> Self {
        Self { words: words.split_whitespace().map(str::to_owned).collect(), ..Self::default() }
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Runs it, which must succeed.
    pub fn run(&self) -> Cost {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(self.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let begun = Instant::now();
        // Waited for by `wait`, which tells what it has used.
        #[expect(clippy::zombie_processes, reason = "wait4 reaps it")]
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.words));
        // Who does not read it may be gone already.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        let (status, usage) = wait(child.id() as i32);
        let wall = begun.elapsed().as_nanos() as u64;
        assert_eq!(status, 0, "{:?}", self.words);
        let time = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
        Cost { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), memory: usage.ru_maxrss as u64 }
    }
}

/// Waits for a child: its status and what it has used.
fn wait(pid: i32) -> (i32, libc::rusage) {
    let mut status = 0;
    // SAFETY: a zeroed rusage is one, and both places are ours.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid);
    (status, usage)
}

/// The costs of one after the other.
pub fn sum(costs: impl IntoIterator<Item = Cost>) -> Cost {
    costs.into_iter().fold(Cost::default(), |all, one| Cost {
        wall: all.wall + one.wall,
        cpu: all.cpu + one.cpu,
        memory: all.memory.max(one.memory),
    })
}

/// Median, and the distance between the first and the third quartile.
pub fn median(mut values: Vec<u64>) -> (u64, u64) {
    values.sort_unstable();
    let at = |part: usize| values[(values.len() - 1) * part / 4];
    (at(2), at(3) - at(1))
}

/// The value below which `part` of all are.
pub fn quantile(mut values: Vec<u64>, part: f64) -> u64 {
    values.sort_unstable();
    values[((values.len() - 1) as f64 * part) as usize]
}
