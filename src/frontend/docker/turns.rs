//! Turns: one call at a time for each endpoint. Docker repeats a call whose connection was cut while that is still being carried out.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// The endpoints for which a call is being carried out.
#[derive(Default)]
pub(super) struct Turns {
    busy: Mutex<BTreeSet<String>>,
    ended: Condvar,
}

/// The turn of a call, until this is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    endpoint: String,
}

impl Turns {
    /// Waits for the turn of a call for `endpoint`.
    pub(super) fn take(&self, endpoint: &str) -> Turn<'_> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.wait_while(busy, |busy| busy.contains(endpoint));
        waited.unwrap_or_else(PoisonError::into_inner).insert(endpoint.to_owned());
        Turn { turns: self, endpoint: endpoint.to_owned() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.endpoint);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn one_after_the_other() {
        let turns = Turns::default();
        let first = turns.take("a");
        // Another one does not wait.
        drop(turns.take("b"));
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let turns = &turns;
            scope.spawn(move || {
                let _turn = turns.take("a");
                sender.send(()).unwrap();
            });
            assert!(receiver.try_recv().is_err());
            drop(first);
            receiver.recv().unwrap();
        });
        assert!(turns.busy.lock().unwrap().is_empty());
    }
}
