//! Enrolments: who may decide, with which key, within which limits. The root half reads them before
//! every decision and execution; whoever writes one or lists them reads them by the same rules.

use olb_lease::{Approver, KeyError, PublicKey, RunAs};
use thiserror::Error;

use crate::client::Refusal;
use crate::lines::{LineError, Lines};
use crate::reason::Reason;

/// An enrolment file is at most this long, in bytes.
pub const ENROLMENT_BYTES_MAX: usize = 4096;
/// At most this many enrolment files are read, in the order of their names.
pub const ENROLMENTS_MAX: usize = 64;
/// A name is at most this long, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Why a text is no enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnrolmentError {
    /// Does not read.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A name that could not be shown.
    #[error("'name' wants 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' or '-'")]
    Name,
    /// Not a public key.
    #[error("'key' is refused: {0}")]
    Key(#[from] KeyError),
    /// A second approver is asked for, which this version cannot do.
    #[error("'second = required' is not built yet, and nothing less is done in its place")]
    Second,
}

/// One approver and what they may decide.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Name, shown to requesters and in the trail.
    pub name: String,
    /// The only uid from which this key's verdicts are taken.
    pub uid: u32,
    /// Public key.
    pub key: PublicKey<Approver>,
    /// Requesters this key may decide on; `None` is any.
    pub requesters: Option<Vec<u32>>,
    /// Target uids this key may approve; `None` is any.
    pub run_as: Option<Vec<u32>>,
    /// Target groups, primary and supplementary, this key may approve; `None` is any.
    pub run_as_groups: Option<Vec<u32>>,
    /// The longest lease, in seconds.
    pub max_lease_secs: u32,
    /// Approvals in any 3600 seconds.
    pub max_approvals_per_hour: u32,
    /// First second, since the Unix epoch, at which the key is out; 0 is never.
    pub not_after: u64,
}

impl Enrolled {
    /// Reads the text of an enrolment file.
    ///
    /// # Errors
    /// See [`EnrolmentError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        let mut lines = Lines::parse(bytes)?;
        let enrolled = Self {
            name: lines.text("name")?,
            uid: lines.number("uid")?,
            key: PublicKey::from_hex(&lines.text("key")?)?,
            requesters: lines.any_or_uids("requesters")?,
            run_as: lines.any_or_uids("run_as")?,
            run_as_groups: lines.any_or_uids("run_as_groups")?,
            max_lease_secs: lines.number("max_lease_secs")?,
            max_approvals_per_hour: lines.number("max_approvals_per_hour")?,
            not_after: lines.number("not_after")?,
        };
        match lines.text("second")?.as_str() {
            "none" => {}
            "required" => return Err(EnrolmentError::Second),
            _ => return Err(LineError::Value { key: "second", wants: "none or required" }.into()),
        }
        lines.end()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if enrolled.name.len() > NAME_BYTES_MAX || !enrolled.name.bytes().all(plain) {
            return Err(EnrolmentError::Name);
        }
        Ok(enrolled)
    }

    /// Whether the key may decide on requests like this one at all.
    ///
    /// # Errors
    /// The requester is not among those it is limited to.
    pub fn permits_requester(&self, uid: u32) -> Result<(), Refusal> {
        self.permit(&self.requesters, uid, "decide on requests of uid")
    }

    /// Whether the key may approve commands for this account.
    ///
    /// # Errors
    /// The account, or one of its groups, is not among those it is limited to.
    pub fn permits_target(&self, run_as: &RunAs) -> Result<(), Refusal> {
        self.permit(&self.run_as, run_as.uid, "approve commands as uid")?;
        let mut groups = run_as.groups.iter().chain([&run_as.gid]);
        groups
            .try_for_each(|gid| self.permit(&self.run_as_groups, *gid, "approve commands with gid"))
    }

    fn permit(&self, list: &Option<Vec<u32>>, id: u32, what: &str) -> Result<(), Refusal> {
        if list.as_ref().is_none_or(|list| list.contains(&id)) {
            return Ok(());
        }
        let text = format!("the key of {} may not {what} {id}", self.name);
        Err(Refusal::new(Reason::NotPermitted, text))
    }

    /// Whether the key is in force at `now`, in seconds since the Unix epoch.
    #[must_use]
    pub fn in_force(&self, now: u64) -> bool {
        self.not_after == 0 || now < self.not_after
    }
}

#[cfg(test)]
mod tests {
    use olb_lease::SigningKey;

    use super::*;

    fn file(second: &str) -> String {
        let key = SigningKey::<Approver>::from_seed(&[3; 32].into()).unwrap();
        format!(
            "name = alice\nuid = 1000\nkey = {}\nrequesters = any\nrun_as = 0\nrun_as_groups = any\n\
             max_lease_secs = 900\nmax_approvals_per_hour = 60\nnot_after = 5\nsecond = {second}\n",
            key.public().hex()
        )
    }

    #[test]
    fn a_file_in_order_is_read() {
        let one = Enrolled::parse(file("none").as_bytes()).unwrap();
        assert_eq!((one.uid, one.requesters, one.run_as), (1000, None, Some(vec![0])));
    }

    #[test]
    fn each_account_and_each_group_of_a_command_is_limited_by_itself() {
        let text = file("none")
            .replace("requesters = any", "requesters = 7,8")
            .replace("run_as_groups = any", "run_as_groups = 0,4");
        let one = Enrolled::parse(text.as_bytes()).unwrap();
        assert!(one.permits_requester(7).is_ok() && one.permits_requester(8).is_ok());
        assert_eq!(one.permits_requester(9).unwrap_err().reason, Reason::NotPermitted);
        let target = |uid, gid, groups: &[u32]| {
            let run_as = RunAs { name: "x".into(), uid, gid, groups: groups.into() };
            one.permits_target(&run_as).map_err(|refusal| refusal.reason)
        };
        assert_eq!(target(0, 4, &[0, 4]), Ok(()));
        assert_eq!(target(0, 4, &[]), Ok(()));
        let refused = [target(1, 4, &[0]), target(0, 5, &[0, 4]), target(0, 0, &[0, 5, 4])];
        assert_eq!(refused, [Err(Reason::NotPermitted); 3]);
    }

    // [F-6]
    #[test]
    fn a_second_approver_is_refused_until_it_is_built() {
        let error = Enrolled::parse(file("required").as_bytes()).unwrap_err();
        assert!(matches!(error, EnrolmentError::Second));
    }

    // [F-5]
    #[test]
    fn published_test_keys_are_refused() {
        let published = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let text = file("none");
        let key = text.lines().nth(2).unwrap();
        let text = text.replace(key, &format!("key = {published}"));
        let error = Enrolled::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, EnrolmentError::Key(olb_lease::KeyError::Published)));
    }

    // [F-4]
    #[test]
    fn names_that_could_deceive_are_refused() {
        let named = |name: &str| {
            Enrolled::parse(file("none").replace("alice", name).as_bytes()).map(|one| one.name)
        };
        let longest = "x".repeat(NAME_BYTES_MAX);
        for name in ["alice", "A.l-i_c3", &longest] {
            assert_eq!(named(name).unwrap(), name);
        }
        assert!(matches!(named(""), Err(EnrolmentError::Line(_))));
        for name in ["ali\u{202e}ce", "al ice", "al/ice", "älice", &format!("{longest}x")] {
            assert!(matches!(named(name), Err(EnrolmentError::Name)), "{name}");
        }
    }

    // [F-8]
    #[test]
    fn a_key_is_out_from_its_last_second_on() {
        let one = Enrolled::parse(file("none").as_bytes()).unwrap();
        assert!(one.in_force(4) && !one.in_force(5));
    }
}
