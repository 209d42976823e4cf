//! A network of another program as it becomes words of ours, and how its JSON is read.

use std::fmt::Display;

use serde_json::Value;

/// A network that somebody else has defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Its name.
    pub name: String,
    /// What makes the same network, behind `underlay network create`.
    pub words: Vec<String>,
    /// What of it underlay has not.
    pub lost: Vec<String>,
}

impl Foreign {
    pub(super) fn say(&mut self, option: &str, value: impl Display) {
        self.words.extend([option.to_owned(), value.to_string()]);
    }

    pub(super) fn lose(&mut self, what: impl Display) {
        self.lost.push(what.to_string());
    }

    pub(super) fn labels(&mut self, labels: &Value) {
        for (key, value) in labels.as_object().into_iter().flatten() {
            self.say("--label", format!("{key}={}", value.as_str().unwrap_or_default()));
        }
    }
}

/// The text of `key`, if there is any.
pub(super) fn word<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

pub(super) fn is_true(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

/// The elements of the array `key`, if there is one.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The members of the object `key`, if there is one, with their text.
pub(super) fn members<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let members = value.get(key).and_then(Value::as_object).into_iter().flatten();
    members.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}
