//! A test by name, and how it is run and reported.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use libtest_mimic::{Failed, Trial};

use crate::harness::need::Need;
use crate::harness::place::Debian;

/// A test that is made of nothing but a function: its name, what it needs, the function.
pub type Named = (&'static str, &'static [Need], fn());

/// A test by name, with what it needs of the machine.
pub struct Test {
    pub name: String,
    pub needs: Vec<Need>,
    pub debians: &'static [Debian],
    /// Whether one of them is enough.
    pub in_one: bool,
    alone: bool,
    run: Box<dyn FnOnce() + Send>,
}

/// Tests share the machine; those that load it alone have it for themselves.
static MACHINE: RwLock<()> = RwLock::new(());

impl Test {
    /// The test `name`, which needs `needs` and fails by panicking.
    pub fn new(name: impl Into<String>, needs: &[Need], run: impl FnOnce() + Send + 'static) -> Self {
        Self {
            name: name.into(),
            needs: needs.to_vec(),
            debians: &Debian::ALL,
            in_one: false,
            alone: false,
            run: Box::new(run),
        }
    }

    /// It is about what only the engines of these have.
    #[must_use]
    pub fn of(self, debians: &'static [Debian]) -> Self {
        Self { debians, ..self }
    }

    /// It is about underlay, and not about what differs between the programs of Debians: those of one are enough.
    #[must_use]
    pub fn in_one(self) -> Self {
        Self { in_one: true, ..self }
    }

    /// It loads the machine so that others, or it beside them, would run out of time.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    pub fn into_trial(self, strictly: bool) -> Trial {
        let missing = self.needs.iter().find_map(|need| Some((need, need.missing()?)));
        let run = self.run;
        let alone = self.alone;
        match (missing, strictly) {
            (Some((need, why)), true) => {
                let text = format!("needs {need}: {why}");
                Trial::test(self.name.clone(), move || {
                    tell(&self.name, Instant::now(), false);
                    Err(Failed::from(text))
                })
            }
            (Some((need, _)), false) => {
                Trial::test(self.name, || Ok(())).with_kind(format!("needs {need}")).with_ignored_flag(true)
            }
            (None, _) => Trial::test(self.name.clone(), move || {
                let _shared = (!alone).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
                let _alone = alone.then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
                let start = Instant::now();
                let done = panic::catch_unwind(AssertUnwindSafe(run));
                tell(&self.name, start, done.is_ok());
                done.map_err(|panic| {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                    let place = PLACE.take().unwrap_or_default();
                    Failed::from(format!("{place}: {}", unescaped(text)))
                })
            }),
        }
    }
}

thread_local! {
    /// Where this thread has panicked last: `FILE:LINE`.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Notes where a thread panics, for the report of its test.
pub fn note_places() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PLACE.set(panic.location().map(|place| format!("{}:{}", place.file(), place.line())));
        usual(panic);
    }));
}

/// The text of a panic as it is read: `unwrap` and `assert_eq` show text with its line ends, tabs and quotes escaped. Other
/// escapes stay, since they stand for what a terminal would obey.
fn unescaped(text: &str) -> String {
    let mut read = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let after = rest.as_str();
        match (c, after.chars().next()) {
            ('\\', Some(escaped @ ('n' | 't' | '"' | '\'' | '\\'))) => {
                read.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
                rest.next();
            }
            _ => read.push(c),
        }
    }
    read
}

/// Tells `tests/run` how a test that began at `start` has ended: in one write, for other tests write too.
fn tell(name: &str, start: Instant, is_ok: bool) {
    if std::env::var_os("UNDERLAY_TEST_TIMES").is_some() {
        let end = if is_ok { "ok" } else { "FAILED" };
        let line = format!("\n{:6.1} s  {end}  {name}\n", start.elapsed().as_secs_f32());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
