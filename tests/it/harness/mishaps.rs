//! A program that is killed, or has an error, at each of its system calls in turn.

use std::ops::Range;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use crate::harness::place::{self, soak};
use crate::harness::tracer::{Call, Mishap, Traced, trace};

pub const ERRORS: [Errno; 7] =
    [Errno::EIO, Errno::ENOSPC, Errno::ENOMEM, Errno::EINTR, Errno::EMFILE, Errno::EAGAIN, Errno::ENOBUFS];

/// What the C library does when a thread begins or ends, and cannot do without.
const FATAL: [i64; 2] = [libc::SYS_rseq, libc::SYS_set_robust_list];

/// Where Rust's library ends the program: a thread has no stack for its signals, a folder cannot be closed.
const ENDS_OF_RUST: [&str; 3] = [
    "failed to allocate an alternative stack",
    "failed to set up alternative stack guard page",
    "unexpected error during closedir",
];

/// Calls `each` with the number of every system call, or of one in `stride`, until it says that the program makes no such
/// call. With time (`make test-all`) it is every one; in the guest, which is emulated, few stand for all.
pub fn steps(what: &str, stride: usize, mut each: impl FnMut(usize) -> bool) {
    let step = match () {
        () if soak() => 1,
        () if place::is_guest() => 41,
        () => stride,
    };
    let (mut at, mut points) = (step, 0);
    while each(at) {
        at += step;
        points += 1;
    }
    assert!(at > 30, "only {at} system calls?");
    eprintln!("crash::{what}: {points} points among {} system calls", at - 1);
}

/// Each call fails with one of the errors, by turns; with all of them if there is time.
pub fn turns() -> Range<usize> {
    0..if soak() { ERRORS.len() } else { 1 }
}

/// Runs `command` with `stdin`, with a mishap at its system call number `at`; what became of it, and the call, if it made
/// so many.
pub fn trace_to(command: &Command, stdin: &[u8], at: usize, mishap: Mishap) -> (Traced, Option<Call>) {
    let mut hit = None;
    let traced = trace(command, stdin, |call| {
        (call.count == at).then(|| {
            hit = Some(call);
            mishap
        })
    });
    (traced, hit)
}

/// As [`trace_to`], of a program that serves calls: counted from the system call that `begins` on. The program is killed once the
/// service `is_over`.
pub fn trace_service_to(
    command: &Command,
    begins: impl Fn(&Call) -> bool,
    is_over: impl Fn() -> bool,
    at: usize,
    mishap: Mishap,
) -> (Traced, Option<Call>) {
    let (mut first, mut hit) = (None, None);
    let traced = trace(command, b"", |call| {
        if is_over() {
            return Some(Mishap::Kill);
        }
        if first.is_none() && begins(&call) {
            first = Some(call.count);
        }
        let is_it = first.is_some_and(|first| call.count + 1 == first + at);
        is_it.then(|| hit = Some(call)).map(|()| mishap)
    });
    (traced, hit)
}

/// Asserts that the program, if it was not killed, has ended with success or with a sentence of its own on stderr, wherever our
/// code ran already. Returns false if it was killed, or as good as that.
pub fn assert_clean(traced: &Traced, hit: Option<Call>, what: &str) -> bool {
    let is_by_itself = assert_ended(traced, hit, what);
    if is_by_itself && hit.is_some_and(|call| call.started) {
        let words = ["underlay: ", "underlay-runtime: ", "[WARN ] "];
        let is_silent_success = traced.code() == Some(0) && traced.stderr.is_empty();
        assert!(words.iter().any(|word| traced.stderr.starts_with(word)) || is_silent_success, "{what}");
    }
    is_by_itself
}

/// Asserts that the program, if it was not killed, has ended with success or an error, wherever our code ran already. Where
/// the C library or Rust's end it because a thread cannot begin or be waited for, that is as good as a kill. Returns false if the
/// program was ended that way.
pub fn assert_ended(traced: &Traced, hit: Option<Call>, what: &str) -> bool {
    let Some(call) = hit.filter(|call| call.started) else { return true };
    if matches!(traced.end, WaitStatus::Signaled(_, Signal::SIGKILL, _))
        || is_the_end_of_a_thread(traced, call)
    {
        return false;
    }
    assert!(matches!(traced.code(), Some(0 | 1)), "{what}: {:?}", traced.end);
    assert!(!traced.stderr.contains("panicked"), "{what}");
    true
}

/// Whether the C library or Rust's has ended the program at `call`: that is as good as a kill.
fn is_the_end_of_a_thread(traced: &Traced, call: Call) -> bool {
    let by_rust = ENDS_OF_RUST.iter().any(|end| traced.stderr.contains(end));
    by_rust || (traced.code().is_none() && FATAL.contains(&call.number))
}
