//! The one transition table.

use std::fmt::{self, Write as _};

use olb_lease::Outcome;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$item])* $name,)* }

        impl $type {
            /// Every one, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The one with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names!(
    /// Where a request stands.
    State {
        /// Waits for a human.
        Pending = "pending",
        /// A human said yes; the lease waits to be presented.
        Approved = "approved",
        /// The lease is burned; the command runs.
        Executing = "executing",
        /// The command ended by itself.
        Exited = "exited",
        /// A signal ended the command.
        Killed = "killed",
        /// The lease is burned, but nothing could be started.
        SpawnFailed = "spawn_failed",
        /// The lease is burned; whether and how the command ended is not known.
        OutcomeUnknown = "outcome_unknown",
        /// A human said no.
        Denied = "denied",
        /// Nobody answered, or the approval was not used in time.
        Expired = "expired",
        /// The requester took it back.
        Cancelled = "cancelled",
        /// A human took the approval back.
        Revoked = "revoked",
    }
);

names!(
    /// What can happen to a request.
    Event {
        /// The root half recorded an approval.
        Approve = "approve",
        /// The root half recorded a denial.
        Deny = "deny",
        /// The root half recorded a revocation.
        Revoke = "revoke",
        /// Its time is over.
        Expire = "expire",
        /// The requester cancels.
        Cancel = "cancel",
        /// The root half burned the lease.
        Burn = "burn",
        /// The command exited.
        Exit = "exit",
        /// A signal killed the command.
        Kill = "kill",
        /// The command could not be started.
        FailSpawn = "fail_spawn",
        /// The outcome will never be known.
        LoseOutcome = "lose_outcome",
        /// The ledger began a new epoch: leases of the old one are void.
        ChangeEpoch = "change_epoch",
    }
);

impl State {
    /// Whether it is final: no event leads out of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Approved | Self::Executing => false,
            Self::Exited
            | Self::Killed
            | Self::SpawnFailed
            | Self::OutcomeUnknown
            | Self::Denied
            | Self::Expired
            | Self::Cancelled
            | Self::Revoked => true,
        }
    }
}

impl From<Outcome> for Event {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Exited(_) => Self::Exit,
            Outcome::Killed(_) => Self::Kill,
            Outcome::SpawnFailed(_) => Self::FailSpawn,
            Outcome::Unknown { .. } => Self::LoseOutcome,
        }
    }
}

/// What an event does to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The request moves to this state.
    To(State),
    /// Nothing changes: the event says what is so already, or does not concern this state.
    Same,
    /// The event does not belong here.
    Refused,
}

/// The transition table: every state and every event, without a catch-all.
pub const fn next(state: State, event: Event) -> Step {
    match state {
        State::Pending => match event {
            Event::Approve => Step::To(State::Approved),
            Event::Deny => Step::To(State::Denied),
            Event::Revoke => Step::To(State::Revoked),
            Event::Expire => Step::To(State::Expired),
            Event::Cancel => Step::To(State::Cancelled),
            // A pending request holds nothing of an epoch; it stays approvable.
            Event::ChangeEpoch => Step::Same,
            Event::Burn | Event::Exit | Event::Kill | Event::FailSpawn | Event::LoseOutcome => {
                Step::Refused
            }
        },
        State::Approved => match event {
            Event::Approve => Step::Same,
            // A "no" after a "yes" takes the approval back.
            Event::Deny | Event::Revoke => Step::To(State::Revoked),
            Event::Expire | Event::ChangeEpoch => Step::To(State::Expired),
            Event::Burn => Step::To(State::Executing),
            Event::Cancel | Event::Exit | Event::Kill | Event::FailSpawn | Event::LoseOutcome => {
                Step::Refused
            }
        },
        State::Executing => match event {
            // A burned lease belongs to its run, whatever the epoch is.
            Event::Burn | Event::ChangeEpoch => Step::Same,
            Event::Exit => Step::To(State::Exited),
            Event::Kill => Step::To(State::Killed),
            Event::FailSpawn => Step::To(State::SpawnFailed),
            Event::LoseOutcome => Step::To(State::OutcomeUnknown),
            Event::Approve | Event::Deny | Event::Revoke | Event::Expire | Event::Cancel => {
                Step::Refused
            }
        },
        State::Exited => repeat(event, Event::Exit),
        State::Killed => repeat(event, Event::Kill),
        State::SpawnFailed => repeat(event, Event::FailSpawn),
        State::OutcomeUnknown => repeat(event, Event::LoseOutcome),
        State::Denied => repeat(event, Event::Deny),
        State::Expired => repeat(event, Event::Expire),
        State::Cancelled => repeat(event, Event::Cancel),
        State::Revoked => repeat(event, Event::Revoke),
    }
}

/// A final state: only the event that led there may come again, and a new epoch is no concern.
const fn repeat(event: Event, again: Event) -> Step {
    if event as u8 == again as u8 || event as u8 == Event::ChangeEpoch as u8 {
        Step::Same
    } else {
        Step::Refused
    }
}

/// The table as text: a line per state and event.
#[must_use]
pub fn transition_table() -> String {
    let mut text = String::new();
    for state in State::ALL {
        for event in Event::ALL {
            let step = match next(*state, *event) {
                Step::To(state) => state.name(),
                Step::Same => "(same)",
                Step::Refused => "(refused)",
            };
            // Writing to a string does not fail.
            let _infallible = writeln!(text, "{:<16}{:<14}{step}", state.name(), event.name());
        }
    }
    text
}

/// The table as a graph in the DOT language; what changes nothing and what is refused is left out.
#[must_use]
pub fn transition_graph() -> String {
    let mut text = String::from("digraph lifecycle {\n  rankdir=LR;\n");
    for state in State::ALL {
        let shape = if state.is_final() { "doublecircle" } else { "circle" };
        let _infallible = writeln!(text, "  {state} [shape={shape}];");
    }
    for state in State::ALL {
        for event in Event::ALL {
            if let Step::To(next) = next(*state, *event) {
                let _infallible = writeln!(text, "  {state} -> {next} [label=\"{event}\"];");
            }
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_was_reviewed() {
        let table = transition_table();
        assert_eq!(table, include_str!("transitions.txt"), "src/transitions.txt differs:\n{table}");
    }

    #[test]
    fn the_graph_in_the_documents_is_drawn_from_the_table() {
        let graph = transition_graph();
        let drawn = include_str!("../../../docs/lifecycle.dot");
        assert_eq!(graph, drawn, "docs/lifecycle.dot differs:\n{graph}");
    }

    #[test]
    fn nothing_leads_out_of_a_final_state() {
        for state in State::ALL.iter().filter(|state| state.is_final()) {
            for event in Event::ALL {
                assert!(!matches!(next(*state, *event), Step::To(_)), "{state} {event}");
            }
        }
    }

    #[test]
    fn only_a_burn_leads_to_a_run_and_only_an_approval_is_burned() {
        for state in State::ALL {
            for event in Event::ALL {
                if next(*state, *event) == Step::To(State::Executing) {
                    assert_eq!((*state, *event), (State::Approved, Event::Burn));
                }
                if next(*state, *event) == Step::To(State::Approved) {
                    assert_eq!((*state, *event), (State::Pending, Event::Approve));
                }
            }
        }
    }

    #[test]
    fn names_come_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(*state));
        }
        assert_eq!(State::from_name("Pending"), None);
    }
}
