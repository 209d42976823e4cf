//! Runs a program under ptrace(2): between any two of its system calls something can happen.

use std::io::Write as _;
use std::mem::offset_of;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What happens to a program at a system call, before the kernel sees that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// SIGKILL.
    Kill,
    /// The call fails with this, and is not done.
    Error(Errno),
}

/// How a program ended that was traced.
#[derive(Debug)]
pub struct Traced {
    /// Exit code or signal.
    pub end: WaitStatus,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A system call that a program is about to do.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// How many the threads of the program have made with this one.
    pub count: usize,
    /// Its number.
    pub number: i64,
    /// The thread that makes it.
    thread: Pid,
    /// Its first three arguments.
    pub arguments: [u64; 3],
    /// Whether the program has begun to read its stdin or to open files: before, its C library was at work.
    pub started: bool,
}

impl Call {
    /// Whether it locks or unlocks a file by its open file description (fcntl(2)), as the ledger's lock is.
    pub fn is_of_lock(&self) -> bool {
        self.number == libc::SYS_fcntl && self.arguments[1] == libc::F_OFD_SETLK as u64
    }

    /// What it sends, if it is a sendto(2).
    pub fn sent(&self) -> Option<Vec<u8>> {
        let [_, buffer, length] = self.arguments;
        (self.number == libc::SYS_sendto).then(|| {
            let memory = std::fs::File::open(format!("/proc/{}/mem", self.thread)).unwrap();
            let mut bytes = vec![0; length as usize];
            memory.read_exact_at(&mut bytes, buffer).unwrap();
            bytes
        })
    }
}

impl Traced {
    /// Its exit code, if it ended by itself.
    pub fn code(&self) -> Option<i32> {
        match self.end {
            WaitStatus::Exited(_, code) => Some(code),
            _ => None,
        }
    }
}

/// Runs `command` with `stdin`; before each of its system calls, all its threads stand still and `each` says what is to
/// happen. A call that cannot fail does not.
pub fn trace(command: &Command, stdin: &[u8], each: impl FnMut(Call) -> Option<Mishap>) -> Traced {
    let (mut child, pid) = start(command, stdin);
    let end = follow(pid, each);
    let mut stderr = String::new();
    let _ = std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut stderr);
    // Reaped already.
    let _: std::io::Result<ExitStatus> = child.wait();
    Traced { end, stderr }
}

/// Runs `command`, which has one thread and must succeed, with `stdin`, step by step: how many instructions of its own
/// it takes, from the last execve(2) on. Those of the kernel's vDSO are left out: the longer the kernel has not run, the more
/// it takes to tell the time.
pub fn steps(command: &Command, stdin: &[u8]) -> u64 {
    let (mut child, pid) = start(command, stdin);
    let (mut execs, mut steps, mut vdso) = (0, 0, 0..0);
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0);
                break;
            }
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => {
                (execs, steps) = (execs + 1, 0);
                vdso = vdso_of(pid);
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) if execs >= EXECS => {
                let at = ptrace::read_user(pid, offset_of!(libc::user_regs_struct, rip) as *mut _).unwrap();
                steps += u64::from(!vdso.contains(&(at as u64)));
            }
            _ => {}
        }
        if execs >= EXECS { ptrace::step(pid, None).unwrap() } else { ptrace::cont(pid, None).unwrap() }
    }
    let _: std::io::Result<ExitStatus> = child.wait();
    steps
}

/// Where the vDSO of a process is (vdso(7)).
fn vdso_of(pid: Pid) -> Range<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
    let (first, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    number(first)..number(end)
}

/// Starts `command` with `stdin`, to be traced from before its execve(2).
fn start(command: &Command, stdin: &[u8]) -> (Child, Pid) {
    // The shell stops until it is traced, and becomes the program then.
    let mut stopped = Command::new("sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program());
    stopped.args(command.get_args()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    stopped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    stopped.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = stopped.spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // The pipe takes it whole; a program that dies early need not read it.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
    (child, pid)
}

/// Lets the tracees go from stop to stop until the first of them, `pid`, has ended.
fn follow(pid: Pid, mut each: impl FnMut(Call) -> Option<Mishap>) -> WaitStatus {
    // Of this thread's tracees alone: other tests have children too.
    let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let (mut execs, mut count, mut started) = (0, 0, false);
    // Whose call fails, when it comes back.
    let mut failing: Option<(Pid, Errno)> = None;
    // Whose call the kernel has begin anew, as it does with sysctls while others hold its lock: that is no other call.
    let mut anew: Option<Pid> = None;
    loop {
        let status = waitpid(None, Some(any)).unwrap();
        let Some(thread) = status.pid() else { continue };
        let mut signal = None;
        match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                if thread == pid {
                    return status;
                }
                continue;
            }
            WaitStatus::PtraceSyscall(_) if failing.is_some_and(|(whose, _)| whose == thread) => {
                if let Some((_, errno)) = failing.take() {
                    set_result(thread, errno);
                }
            }
            WaitStatus::PtraceSyscall(_) => match entering(thread) {
                None if begins_anew(thread) => anew = Some(thread),
                Some(_) if anew.take_if(|whose| *whose == thread).is_some() => {}
                Some((number, arguments)) if execs == EXECS => {
                    count += 1;
                    let mishap = each(Call { count, number, thread, arguments, started });
                    started |= number == libc::SYS_openat || (number == libc::SYS_read && arguments[0] == 0);
                    match mishap {
                        Some(Mishap::Kill) => {
                            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
                            continue;
                        }
                        Some(Mishap::Error(errno)) if !NEVER_FAIL.contains(&number) => {
                            // close(2) closes, whatever it says.
                            if number != libc::SYS_close {
                                skip(thread);
                            }
                            failing = Some((thread, errno));
                        }
                        _ => {}
                    }
                }
                _ => {}
            },
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => execs += 1,
            // A new thread, or the stop of the group.
            WaitStatus::PtraceEvent(..) => {}
            WaitStatus::Stopped(_, Signal::SIGSTOP | Signal::SIGTRAP | Signal::SIGCONT) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            _ => {}
        }
        // It may have been killed meanwhile.
        let _ = ptrace::syscall(thread, signal);
    }
}

/// brk(2) returns the old break, a sleep is interrupted at most, and the clock is there (a system call where the kernel
/// has no faster way for this machine). futex(2) lacks nothing by which a thread could fail to wake another.
const NEVER_FAIL: [i64; 6] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_brk,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_futex,
];

/// The shell becomes nsenter, and that the program.
const EXECS: usize = 2;

/// The number of the system call that `thread` is about to do, and its first three arguments; `None` when it comes back
/// from one.
fn entering(thread: Pid) -> Option<(i64, [u64; 3])> {
    let info = ptrace::syscall_info(thread).ok()?;
    let registers = ptrace::getregs(thread).ok()?;
    (info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
        .then_some((registers.orig_rax as i64, [registers.rdi, registers.rsi, registers.rdx]))
}

/// Whether the call that `thread` comes back from is begun anew: ERESTARTNOINTR, which no program sees.
fn begins_anew(thread: Pid) -> bool {
    const ERESTARTNOINTR: i64 = 513;
    ptrace::getregs(thread).is_ok_and(|registers| registers.rax as i64 == -ERESTARTNOINTR)
}

/// Makes the call that `thread` is about to do none.
fn skip(thread: Pid) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.orig_rax = u64::MAX;
    ptrace::setregs(thread, registers).unwrap();
}

/// Makes the call that `thread` comes back from a failure.
fn set_result(thread: Pid, errno: Errno) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.rax = -i64::from(errno as i32) as u64;
    ptrace::setregs(thread, registers).unwrap();
}
