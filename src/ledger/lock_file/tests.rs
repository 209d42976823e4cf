use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tempfile::TempDir;

use super::*;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("lock");
    (folder, first)
}

fn now(first: &Path, known: Option<LockFile>) -> Acquired {
    acquire(first, known, Duration::ZERO).unwrap()
}

fn found(path: &Path) -> LockFile {
    LockFile::find(path.to_owned()).unwrap().unwrap()
}

/// The file at `path`, with a read lock unless a writer has it locked.
fn read(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock(libc::F_RDLCK))).ok().map(|_| file)
}

fn mark(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(DEAD)).unwrap();
}

fn make_dead(path: &Path) {
    fs::write(path, "").unwrap();
    mark(path);
}

fn is_busy(acquired: &Acquired, with: &LockFile) -> bool {
    matches!(acquired, Err(Refused::Busy(id)) if *id == with.id)
}

#[test]
fn what_is_dead_counts_no_more() {
    let (_folder, first) = folder();
    let (old, early) = (found(&first), found(&first));
    mark(&first);
    let held = now(&first, Some(old)).unwrap();
    assert_eq!(held.path, name(&first, 1));
    assert!(early.try_lock(libc::F_WRLCK).unwrap() && !early.is_current().unwrap());
    assert!(is_busy(&now(&first, Some(early)), &held));
    held.unlock();
    assert!(now(&first, None).is_ok() && now(&first, Some(held)).is_ok());
}

/// A process whose lock counts keeps it, even if the file is marked as dead afterwards.
#[test]
fn the_holder_of_a_dead_file_is_waited_for() {
    let (_folder, first) = folder();
    let held = now(&first, None).unwrap();
    mark(&first);
    assert!(is_busy(&now(&first, None), &held), "two have it");
    assert!(is_busy(&acquire(&first, None, LOOK * 3).unwrap(), &held));
    thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&first, None, Duration::from_secs(60)).unwrap().unwrap());
        thread::sleep(LOOK * 2);
        assert!(!waits.is_finished());
        held.unlock();
        let next = waits.join().unwrap();
        assert_eq!(next.path, name(&first, 1));
        assert!(is_busy(&now(&first, Some(held)), &next), "it has no second time");
    });
}

#[test]
fn what_a_writer_has_is_not_marked() {
    let (_folder, first) = folder();
    let held = now(&first, None).unwrap();
    assert!(is_busy(&now(&first, None), &held) && is_busy(&acquire(&first, None, LOOK * 3).unwrap(), &held));
    assert!(!found(&first).is_dead);
    held.unlock();
    assert!(!found(&first).displace().unwrap(), "no reader blocks it");
}

#[test]
fn what_is_no_lock_file_is_passed_over() {
    let (_folder, first) = folder();
    make_dead(&first);
    fs::create_dir(name(&first, 1)).unwrap();
    symlink("lock", name(&first, 2)).unwrap();
    nix::unistd::mkfifo(&name(&first, 3), nix::sys::stat::Mode::S_IRWXU).unwrap();
    make_dead(&name(&first, 4));
    fs::write(name(&first, 5), "").unwrap();
    fs::set_permissions(name(&first, 5), Permissions::from_mode(0o666)).unwrap();
    let held = now(&first, None).unwrap();
    assert_eq!(held.path, name(&first, 6));
    assert!(is_busy(&now(&first, None), &held));
}

/// A process that displaces a reader may be killed after each step.
#[test]
fn killed_after_each_step() {
    type Step<'a> = (&'a str, &'a dyn Fn(&Path));
    let steps: [Step<'_>; 6] = [
        ("opened", &|first| drop(found(first))),
        ("marked", &|first| mark(first)),
        ("marked by its path", &|first| mark_leased(first).unwrap()),
        ("seen that no writer has it", &|first| {
            mark(first);
            assert!(found(first).try_lock(libc::F_RDLCK).unwrap());
        }),
        ("next made", &|first| {
            mark(first);
            drop(found(&name(first, 1)));
        }),
        ("next locked", &|first| {
            mark(first);
            drop(now(first, None).unwrap());
        }),
    ];
    for (what, step) in steps {
        for is_read in [true, false] {
            let (_folder, first) = folder();
            drop(found(&first));
            let _reader = is_read.then(|| read(&first).unwrap());
            step(&first);
            let held = now(&first, None).unwrap_or_else(|refused| panic!("{what}: {refused:?}"));
            assert!(is_busy(&now(&first, None), &held), "{what}");
            held.unlock();
            assert!(now(&first, None).is_ok() && now(&first, Some(held)).is_ok(), "{what}");
        }
    }
}

/// If many processes displace the same file at once, one has the lock.
#[test]
fn one_displaces() {
    for _ in 0..500 {
        let (folder, first) = folder();
        drop(found(&first));
        let _reader = read(&first).unwrap();
        let start = Barrier::new(8);
        let got = thread::scope(|scope| {
            let all = [(); 8].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    now(&first, None)
                })
            });
            all.map(|one| one.join().unwrap())
        });
        let held: Vec<_> = got.iter().flatten().collect();
        assert_eq!(held.len(), 1);
        assert!(held[0].is_current().unwrap() && held[0].path == name(&first, 1));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

/// Neither readers that lock each next file nor a process that marks files at any time lets two writers in at
/// once.
#[test]
fn readers_let_no_two_in() {
    let (_folder, first) = folder();
    let (inside, done, entered) = (AtomicU32::new(0), AtomicBool::new(false), AtomicU32::new(0));
    let follow = |to_do: &dyn Fn(&Path)| {
        let mut number = 0;
        // Each costs a file.
        while number < FILES - 100 && !done.load(Ordering::Relaxed) {
            if name(&first, number + 1).exists() {
                number += 1;
            }
            to_do(&name(&first, number));
        }
    };
    let read_locks = || {
        follow(&|path| {
            let _reader = read(path);
            thread::sleep(Duration::from_micros(200));
        });
    };
    let marks = || {
        follow(&|path| {
            thread::sleep(Duration::from_millis(2));
            if path.exists() {
                mark(path);
            }
        });
    };
    let writer = || {
        let mut known = None;
        for _ in 0..60 {
            let held = acquire(&first, known.take(), Duration::from_secs(60)).unwrap().unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
            thread::sleep(Duration::from_micros(300));
            inside.fetch_sub(1, Ordering::SeqCst);
            entered.fetch_add(1, Ordering::SeqCst);
            held.unlock();
            known = Some(held);
        }
    };
    thread::scope(|scope| {
        scope.spawn(read_locks);
        scope.spawn(read_locks);
        scope.spawn(marks);
        let writers = [(); 8].map(|()| scope.spawn(writer));
        let all = writers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        assert!(all.iter().all(Result::is_ok));
    });
    assert_eq!(entered.into_inner(), 480);
    assert!(name(&first, 1).exists(), "no reader blocked it");
}

#[test]
fn used_up() {
    let (_folder, first) = folder();
    (0..FILES - 1).for_each(|number| make_dead(&name(&first, number)));
    let last = now(&first, None).unwrap();
    assert_eq!(last.path, name(&first, FILES - 1));
    last.unlock();
    let _reader = read(&last.path).unwrap();
    let Err(Refused::UsedUp(dead)) = now(&first, Some(last)) else { panic!("there is one more") };
    assert_eq!(dead.len(), FILES as usize);
    fs::remove_file(name(&first, 1)).unwrap();
    assert_eq!(now(&first, None).unwrap().path, name(&first, 1));
}
