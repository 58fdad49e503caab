//! Who may be connected, and how often: decided from the kernel's word before a byte is read.

use olb_core::Viewer;
use olb_exec_api::Info;
use thiserror::Error;

/// Which of the two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// `request.sock`, for requesters.
    Request,
    /// `review.sock`, for approvers.
    Review,
}

impl Door {
    /// The socket's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request.sock",
            Self::Review => "review.sock",
        }
    }
}

/// Who is at which door, by the kernel's word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) door: Door,
    pub(crate) uid: u32,
}

impl Peer {
    /// What it may see.
    pub(crate) fn viewer(self) -> Viewer {
        match self.door {
            Door::Request => Viewer::Requester(self.uid),
            Door::Review => Viewer::Approver,
        }
    }
}

/// Why a peer is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AdmissionError {
    #[error(
        "this account may not ask for privileged commands; an administrator can list it as a \
         requester"
    )]
    NotRequester,
    #[error(
        "no key of this account may approve: none was enrolled, or it was revoked or has ended; root \
         sees which with 'olb keys list', and enrols one with 'olb keys enroll'"
    )]
    NotApprover,
    #[error("the limit {limit} = {max} is reached; wait for others of yours to end")]
    TooMany { limit: &'static str, max: u64 },
}

/// Whether `uid` belongs behind this door.
///
/// Nobody is both requester and approver where there is a boundary to protect: on a list twice
/// means the requester's side.
pub(crate) fn check(info: &Info, door: Door, uid: u32) -> Result<(), AdmissionError> {
    let requester = info.requesters.contains(&uid);
    let approver = info.enrolments.iter().any(|enrolment| enrolment.uid == uid);
    match door {
        Door::Request if requester => Ok(()),
        Door::Review if approver && !(requester && info.boundary) => Ok(()),
        Door::Request | Door::Review => Err(not_listed(door)),
    }
}

/// What somebody is told who is not on the list of this door.
pub(crate) fn not_listed(door: Door) -> AdmissionError {
    match door {
        Door::Request => AdmissionError::NotRequester,
        Door::Review => AdmissionError::NotApprover,
    }
}

/// One for each door, so that nobody at one can shut out those at the other.
#[derive(Debug)]
pub(crate) struct Doors<T> {
    pub(crate) request: T,
    pub(crate) review: T,
}

impl<T> Doors<T> {
    pub(crate) fn of(&self, door: Door) -> &T {
        match door {
            Door::Request => &self.request,
            Door::Review => &self.review,
        }
    }
}

#[cfg(test)]
mod tests {
    use olb_exec_api::Enrolment;
    use olb_lease::{Audience, Epoch, Kid};

    use super::*;

    fn info(boundary: bool) -> Info {
        let enrolment = |uid| Enrolment {
            name: "alice".into(),
            uid,
            key: [1; 32],
            kid: Kid([2; 8]),
            lease_lifetime_secs: 900,
        };
        Info {
            host: "web-1".into(),
            audience: Audience([0; 32]),
            epoch: Epoch([0; 16]),
            lease_key: [0; 32],
            audit_key: [0; 32],
            sequence: 0,
            boundary,
            requesters: vec![1001, 1002],
            enrolments: vec![enrolment(1000), enrolment(1002)],
            limits: Vec::new(),
            staging: Vec::new(),
        }
    }

    #[test]
    fn each_list_opens_its_own_door() {
        let info = info(true);
        assert_eq!(check(&info, Door::Request, 1001), Ok(()));
        assert_eq!(check(&info, Door::Review, 1000), Ok(()));
        assert_eq!(check(&info, Door::Request, 1000), Err(AdmissionError::NotRequester));
        assert_eq!(check(&info, Door::Review, 1001), Err(AdmissionError::NotApprover));
        assert_eq!(check(&info, Door::Request, 0), Err(AdmissionError::NotRequester));
        assert_eq!(check(&info, Door::Review, 0), Err(AdmissionError::NotApprover));
    }

    #[test]
    fn a_requester_reviews_only_where_there_is_no_boundary() {
        assert_eq!(check(&info(true), Door::Review, 1002), Err(AdmissionError::NotApprover));
        assert_eq!(check(&info(false), Door::Review, 1002), Ok(()));
    }
}
