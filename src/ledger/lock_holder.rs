//! The process that has a file locked, found in /proc: each open file lists its locks there
//! (proc_pid_fdinfo(5)), while fcntl(2) does not name the holder of a lock (`F_OFD_GETLK`).

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};

/// How long to search all open files of this machine.
const LIMIT: Duration = Duration::from_millis(500);
/// How much is read of a file in fdinfo: the locks come first.
const HEAD: u64 = 4096;

/// The device (`st_dev`) and inode number of a file.
pub(super) type FileId = (u64, u64);

pub(super) fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Returns the file as the kernel names it in lists of locks (proc_locks(5)).
fn name(&(device, inode): &FileId) -> String {
    format!("{:02x}:{:02x}:{inode}", major(device), minor(device))
}

/// Returns the pid in /proc and the program of a process that has one of `files` locked (fcntl(2)). Returns
/// `None` if none is found: the process is in another pid namespace, /proc is not readable, the file system
/// reports another `st_dev` for files than for itself (btrfs, overlayfs), or [`LIMIT`] is over.
pub(super) fn holder(files: &[FileId]) -> Option<String> {
    let names: Vec<_> = files.iter().map(name).collect();
    let until = Instant::now() + LIMIT;
    let mut pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = pids.find(|pid: &u32| {
        // A process that has exited since has no locks.
        let open = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut open = open.take_while(|_| Instant::now() < until);
        open.any(|file| head(&file.path()).is_ok_and(|fdinfo| has_locked(&fdinfo, &names)))
    })?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // A process chooses its own name: replace characters that a shell or a markdown reader would interpret.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ._:/@+-".contains(c);
    let command: String = command.trim_end().chars().map(|c| if is_plain(c) { c } else { '?' }).collect();
    Some(if command.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({command})") })
}

fn head(path: &Path) -> io::Result<String> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Returns true if `fdinfo` lists a lock of one of `files`, as in `lock: 1: OFDLCK ADVISORY WRITE -1 fe:00:77
/// 0 EOF`.
fn has_locked(fdinfo: &str, files: &[String]) -> bool {
    fdinfo.lines().any(|line| match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
        // A lease delays each open. An flock(2) lock blocks nothing, so it does not count.
        ["lock:", _, "OFDLCK" | "POSIX" | "LEASE", _, _, _, file, ..] => {
            files.iter().any(|name| name == file)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_an_open_file() {
        let files = ["fe:00:77".to_owned(), "00:19:9".to_owned()];
        for (line, is_one) in [
            ("lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:77 0 EOF", true),
            ("lock:\t1: OFDLCK ADVISORY  READ -1 00:19:9 5 5", true),
            ("lock:\t1: POSIX  ADVISORY  READ 4711 00:19:9 0 EOF", true),
            ("lock:\t1: LEASE  ACTIVE    READ 4711 00:19:9 0 EOF", true),
            ("lock:\t1: FLOCK  ADVISORY  WRITE 4711 fe:00:77 0 EOF", false),
            ("lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:770 0 EOF", false),
            ("lock:\t1: OFDLCK ADVISORY  WRITE -1 00:19:77 0 EOF", false),
            ("lock:\t1: OFDLCK", false),
            ("ino:\tfe:00:77", false),
        ] {
            let fdinfo = format!("pos:\t0\nflags:\t02100002\nmnt_id:\t48\nino:\t77\n{line}\n");
            assert_eq!(has_locked(&fdinfo, &files), is_one, "{line}");
        }
    }

    /// A file without locks has no holder. Device numbers have at least two digits.
    #[test]
    fn names_are_the_kernels() {
        let file = tempfile::tempfile().unwrap();
        assert!(holder(&[id(&file.metadata().unwrap())]).is_none());
        let device = nix::sys::stat::makedev(8, 0x1ff);
        assert_eq!(name(&(device, 5)), "08:1ff:5");
    }
}
