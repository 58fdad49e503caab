//! How much of something there may be, per uid and in all: connections, bytes of files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::admission::AdmissionError;

/// Two limits, and who has taken how much.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    per_uid: (&'static str, u64),
    total: (&'static str, u64),
    taken: Rc<RefCell<HashMap<u32, u64>>>,
}

impl Room {
    /// The two limits by their names.
    pub(crate) fn new(per_uid: (&'static str, u64), total: (&'static str, u64)) -> Self {
        Self { per_uid, total, taken: Rc::default() }
    }

    /// Takes so much for `uid`; it is free again when the value is dropped.
    ///
    /// # Errors
    /// A limit would be passed; nothing is taken.
    pub(crate) fn take(&self, uid: u32, amount: u64) -> Result<Share, AdmissionError> {
        let (total, own) = {
            let taken = self.taken.borrow();
            let total = taken.values().fold(0, |sum: u64, one| sum.saturating_add(*one));
            (total, taken.get(&uid).copied().unwrap_or_default())
        };
        for (used, (limit, max)) in [(total, self.total), (own, self.per_uid)] {
            if used.saturating_add(amount) > max {
                return Err(AdmissionError::TooMany { limit, max });
            }
        }
        Ok(self.share(uid, amount))
    }

    /// The same whatever the limits are: for what was let in before they were these.
    pub(crate) fn share(&self, uid: u32, amount: u64) -> Share {
        let mut taken = self.taken.borrow_mut();
        let own = taken.entry(uid).or_default();
        *own = own.saturating_add(amount);
        Share { taken: Rc::clone(&self.taken), uid, amount }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.borrow().is_empty()
    }
}

/// So much of somebody's, free again when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    taken: Rc<RefCell<HashMap<u32, u64>>>,
    uid: u32,
    amount: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.taken.borrow_mut();
        if let Some(own) = taken.get_mut(&self.uid) {
            *own = own.saturating_sub(self.amount);
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_run_out_per_uid_and_in_all_and_come_back() {
        let places = Room::new(("per_uid", 2), ("total", 3));
        let first = places.take(1, 1).unwrap();
        let _second = places.take(1, 1).unwrap();
        let full = AdmissionError::TooMany { limit: "per_uid", max: 2 };
        assert_eq!(places.take(1, 1).unwrap_err(), full);
        let third = places.take(2, 1).unwrap();
        let full = AdmissionError::TooMany { limit: "total", max: 3 };
        assert_eq!(places.take(3, 1).unwrap_err(), full);
        drop((first, third));
        let _again = places.take(1, 1).unwrap();
        let _other = places.take(3, 1).unwrap();
        assert_eq!(places.taken.borrow().len(), 2);
    }
}
