//! What another program says of itself: for people who ask what is wrong, and with limits.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::kernel;

/// How long a program may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is read, in bytes.
const LONGEST: u64 = 4096;

/// What `program --version` prints, cut where it is none any more; nothing, if it cannot be run, or says nothing in time.
/// It has no environment and no terminal, and is killed with what it has started.
pub(crate) fn version(program: &Path) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    let mut command = Command::new(program);
    command.arg("--version").env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let (started, child) = mpsc::channel::<Child>();
    thread::Builder::new()
        .spawn(move || {
            // Of this thread alone.
            kernel::restore_signals();
            let Ok(mut child) = command.spawn() else { return };
            let output = child.stdout.take();
            let _ = started.send(child);
            let mut said = Vec::new();
            let read = output.map(|output| output.take(LONGEST).read_to_end(&mut said));
            let _ = sender.send(read.is_some_and(|read| read.is_ok()).then_some(said));
        })
        .ok()?;
    let mut child = child.recv().ok()?;
    let said = receiver.recv_timeout(TIMEOUT).ok().flatten();
    // Also one that has answered and goes on.
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    group.map(|group| killpg(group, Signal::SIGKILL));
    let _ = child.wait();
    said.map(|said| String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    #[test]
    fn programs_answer_or_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let ask = |script: &str| {
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            version(&path)
        };
        assert_eq!(ask(r#"echo "of $1 in $PWD, $HOME""#).unwrap(), "of --version in /, \n");
        assert_eq!(ask("echo x; exit 3").unwrap(), "x\n");
        assert_eq!(ask("exec yes").unwrap().len() as u64, LONGEST);
        assert_eq!(version(Path::new("/none")), None);
        let begin = Instant::now();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let hangs =
            format!("sleep 1000 & echo $! > {}; echo $$ > {}; exec sleep 1000", one.display(), two.display());
        assert_eq!(ask(&hangs), None);
        assert!(begin.elapsed() < TIMEOUT * 6, "{:?}", begin.elapsed());
        for pid in [one, two] {
            let stat = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
            let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
            let until = Instant::now() + TIMEOUT;
            while !is_gone() {
                assert!(Instant::now() < until, "{stat} goes on");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
