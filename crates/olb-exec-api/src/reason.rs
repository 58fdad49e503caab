//! The closed set of reasons for a refusal. Numbers and names are stable; SPEC.md lists them.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $exit:literal;)*) => {
        /// Why something is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Reason { $($(#[$doc])* $name = $number,)* }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason with this number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The stable name, as JSON and logs have it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The exit code that `olb` ends with.
            #[must_use]
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }
        }
    };
}

reasons! {
    /// Bytes that are not what they should be: a datagram, a plan, a statement.
    Malformed = 1, "malformed", 64;
    /// Something in the command cannot be bound: a file somebody else can change, a magic link.
    CannotBind = 2, "cannot_bind", 64;
    /// Not permitted as asked: a variable that no allowlist permits, an unknown account.
    Unsupported = 3, "unsupported", 64;
    /// The broker cannot serve now: it is starting, stopping, full or cannot record.
    Unavailable = 10, "unavailable", 69;
    /// A limit on how much one uid, or all, may have at once.
    Busy = 11, "busy", 69;
    /// The ledger cannot be written or is not intact.
    LedgerFailed = 12, "ledger_failed", 69;
    /// The run's outcome is not known.
    OutcomeUnknown = 20, "outcome_unknown", 70;
    /// The request still waits for a decision.
    Pending = 30, "pending", 75;
    /// The request or the lease expired.
    Expired = 31, "expired", 75;
    /// The epoch changed: the broker's host was restarted since the approval.
    BrokerRestarted = 32, "broker_restarted", 75;
    /// Requests of this uid are held after several denials.
    CoolOff = 33, "cool_off", 77;
    /// The uid is not on the list of requesters.
    NotListed = 40, "not_listed", 77;
    /// Not the caller's, or not known: the two are not told apart.
    NotYours = 41, "not_yours", 77;
    /// A human denied it.
    Denied = 42, "denied", 77;
    /// An approval was taken back.
    Revoked = 43, "revoked", 77;
    /// The requester cancelled it.
    Cancelled = 44, "cancelled", 77;
    /// The lease was burned before.
    AlreadyBurned = 45, "already_burned", 77;
    /// Signed with a key that is not trusted, or the signature does not hold.
    BadSignature = 46, "bad_signature", 77;
    /// Meant for another broker.
    WrongAudience = 47, "wrong_audience", 77;
    /// This broker never issued it.
    NotIssued = 48, "not_issued", 77;
    /// A statement and the plan beside it do not agree.
    Mismatch = 49, "mismatch", 77;
    /// The executable or the working directory is not what it was when it was asked for.
    IdentityChanged = 50, "identity_changed", 77;
    /// No enrolment for this key, or it was removed.
    NotEnrolled = 51, "not_enrolled", 77;
    /// The approver's uid is not the one the key is enrolled for.
    WrongApprover = 52, "wrong_approver", 77;
    /// The requester cannot approve.
    SelfApproval = 53, "self_approval", 77;
    /// The enrolment does not permit this: requester, target account, rate or date.
    NotPermitted = 54, "not_permitted", 77;
    /// The verdict is too old, not yet valid, or from another epoch.
    StaleVerdict = 55, "stale_verdict", 77;
    /// The request was decided before, and the other way.
    AlreadyDecided = 56, "already_decided", 77;
    /// The file exists but cannot be executed.
    NotExecutable = 60, "not_executable", 126;
    /// No such command.
    NoSuchCommand = 61, "no_such_command", 127;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_come_back() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_number(*reason as u16), Some(*reason));
            assert!(Reason::ALL.iter().skip(at + 1).all(|other| other.name() != reason.name()));
        }
        assert_eq!(Reason::from_number(0), None);
    }
}
