//! The short run: each target with its whole corpus, then with so many inputs made of it. The same ones each time.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

/// How many inputs are made for each target.
const MADE: usize = 20_000;
/// What is made grows no longer.
const LONGEST: usize = 4096;
/// Put into inputs: what readers of JSON, numbers, text and lengths trip over.
const PIECES: [&[u8]; 34] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b";",
    b"=",
    b"/",
    b"-1",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"0",
    b"1e999",
    b"4294967296",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"\\u0000",
    b"\\ud800",
    b"\x00",
    b"\x1b[31m",
    b"\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\x00\x00",
    b"\x03\x00\x00\x00",
    b"[[[[[[[[[[[[[[[[",
    b"10.0.0.0/24",
];

/// Steele, Lea and Flood's SplitMix64: numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % end
    }

    /// A piece of `bytes`, perhaps of no length.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let from = self.below(bytes.len() + 1);
        let length = self.below(bytes.len() - from + 1);
        &bytes[from..from + length]
    }
}

/// An input like those of the `corpus`: one of them with some changes.
fn make(corpus: &[(PathBuf, Vec<u8>)], numbers: &mut Numbers) -> Vec<u8> {
    let any = |numbers: &mut Numbers| corpus[numbers.below(corpus.len())].1.clone();
    let mut input = any(numbers);
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len() + 1);
        let change = numbers.below(7);
        match change {
            0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            1 if at < input.len() => input[at] = numbers.below(256) as u8,
            2 => {
                let gone = numbers.below((input.len() - at).min(16) + 1);
                input.drain(at..at + gone);
            }
            3 => input.truncate(at),
            4 => {
                let own = input.clone();
                input.splice(at..at, numbers.piece(&own).iter().copied());
            }
            5 => {
                let other = any(numbers);
                input.splice(at..at, numbers.piece(&other).iter().copied());
            }
            _ => {
                let piece = PIECES[numbers.below(PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// Gives `input` to the target; if that panics, says which input it was and keeps it.
fn give((target, function): Target, what: &str, input: &[u8]) {
    if panic::catch_unwind(|| function(input)).is_err() {
        let folder = repository().join("target/fuzz/failed");
        let path = folder.join(target);
        fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)).unwrap();
        panic!("target {target}, {what}: the input is in {}", path.display());
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = repository().join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn run(wanted: &str) {
    let target = TARGETS.into_iter().find(|(name, _)| *name == wanted).unwrap();
    let files = corpus(wanted);
    for (path, input) in &files {
        give(target, &path.display().to_string(), input);
        // Cut short anywhere.
        for end in (0..input.len()).step_by(input.len() / 64 + 1) {
            give(target, &format!("{} to {end}", path.display()), &input[..end]);
        }
    }
    let mut numbers = Numbers(1);
    for number in 0..MADE {
        give(target, &format!("made input {number}"), &make(&files, &mut numbers));
    }
}

/// One test for each target, so that they run side by side.
macro_rules! tests {
    ($($target:ident)+) => {
        $(#[test]
        fn $target() {
            run(stringify!($target));
        })+

        #[test]
        fn every_target_is_run() {
            let mut folders: Vec<_> = fs::read_dir(repository().join("fuzz/corpus"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            folders.sort();
            let mut targets = TARGETS.map(|(name, _)| name);
            targets.sort_unstable();
            assert_eq!(folders, targets);
            let mut run = [$(stringify!($target)),+];
            run.sort_unstable();
            assert_eq!(run, targets);
        }
    };
}

tests! { state config annotations network netavark settings ledger netlink frame dhcp4 dhcp4_packet dhcp6 docker }
