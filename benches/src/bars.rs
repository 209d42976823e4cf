//! What is to hold, and whether it does.

use std::fmt::{self, Display, Formatter, Write};

/// A table of bars.
pub struct Bars(String);

impl Bars {
    pub fn new() -> Self {
        Self("| what | bar | measured | |\n|---|---|---|---|\n".to_owned())
    }

    /// Adds that `what` is to be at most `limit`, and was `found`, unless it was not measured.
    pub fn at_most(&mut self, what: &str, limit: f64, unit: &str, found: Option<f64>) {
        self.add(what, &format!("at most {limit}{unit}"), unit, found, |found| found <= limit);
    }

    /// The same with at least `limit`.
    pub fn at_least(&mut self, what: &str, limit: f64, unit: &str, found: Option<f64>) {
        self.add(what, &format!("at least {limit}{unit}"), unit, found, |found| found >= limit);
    }

    fn add(&mut self, what: &str, bar: &str, unit: &str, found: Option<f64>, holds: impl Fn(f64) -> bool) {
        let found = match found {
            Some(found) if holds(found) => format!("{found:.2}{unit} | holds"),
            Some(found) => format!("{found:.2}{unit} | **fails**"),
            None => "not measured | ".to_owned(),
        };
        let _ = writeln!(self.0, "| {what} | {bar} | {found} |");
    }
}

impl Display for Bars {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
