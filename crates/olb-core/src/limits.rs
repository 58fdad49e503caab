//! The front's limits: named, configurable, shown by `olb status`.

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $default:literal,)*) => {
        /// How much one uid, and all together, may have, and for how long.
        ///
        /// The unit is in the name; a field without one is a count.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $($(#[$doc])* pub $name: u64,)* }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Every limit, by name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Sets the limit of this name; false if there is none.
            #[must_use]
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

limits! {
    /// Pending requests of one uid.
    pending_per_uid = 10,
    /// Pending requests of all.
    pending_total = 256,
    /// Pending, approved and executing requests of one uid.
    open_per_uid = 64,
    /// Pending, approved and executing requests of all.
    open_total = 1024,
    /// Submits of one uid within 60 seconds, those that join a request included.
    submits_per_uid_per_minute = 60,
    /// How long a request waits for a human.
    pending_secs = 1800,
    /// How long a denial answers requests like the denied one.
    cool_off_secs = 600,
    /// So many denials within `hold_window_secs` hold all new requests of that uid.
    denials_before_hold = 3,
    /// The window in which denials are counted.
    hold_window_secs = 600,
    /// How long new requests are held.
    hold_secs = 600,
    /// For how long a code is not given again, nor one like it.
    code_reuse_secs = 86_400,
    /// Finished requests kept in memory; older ones are read from the store.
    finished_in_memory = 256,
    /// Bytes of plans, receipts and output of these.
    finished_in_memory_bytes = 16_777_216,
    /// Finished requests of one uid in the store; the oldest ones are deleted above it.
    stored_per_uid = 10_000,
    /// Bytes of the finished requests of one uid in the store.
    stored_bytes_per_uid = 67_108_864,
    /// Finished requests of all in the store; above it those of the uid with the most bytes go.
    stored_total = 100_000,
    /// Bytes of the finished requests of all in the store.
    stored_bytes_total = 268_435_456,
}

impl Limits {
    /// How far back a denial can still matter, in seconds.
    #[must_use]
    pub fn denial_memory_secs(&self) -> u64 {
        self.cool_off_secs.max(self.hold_window_secs.saturating_add(self.hold_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_read_and_set_by_its_name() {
        let mut limits = Limits::default();
        for (at, (name, _)) in Limits::default().named().into_iter().enumerate() {
            assert!(limits.set(name, at as u64 + 7));
        }
        for (at, (_, value)) in limits.named().into_iter().enumerate() {
            assert_eq!(value, at as u64 + 7);
        }
        assert!(!limits.set("no_such_limit", 1));
    }
}
