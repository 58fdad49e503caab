//! Whether the running root half takes a key that was just enrolled.

use std::path::Path;

use olb_lease::Kid;
use olb_review::display::safe;

use crate::failure::{Failure, code};
use crate::keys::folder::revoked;
use crate::keys::place::Place;
use crate::keys::root_half::RootHalf;

/// Name of the refusal of a key that was revoked.
pub(super) const REVOKED: &str = "revoked";

/// Asks the root half that reads the folder `dir`, now that the file at `path` is there. No where none
/// runs.
///
/// # Errors
/// It does not take the key: that was revoked, or something else is in the way. Or it does not say.
pub(super) fn by_root_half(dir: &Path, path: &Path, kid: Kid) -> Result<bool, Failure> {
    let Some(place) = Place::find(None).ok().filter(|place| place.approvers_dir == dir) else {
        return Ok(false);
    };
    let root_half = RootHalf::of(&place.runtime_dir);
    let shown = safe(path.as_os_str().as_encoded_bytes());
    let unanswered = |failure: Failure| {
        let text = format!(
            "{shown} is there, but the root half does not say that it takes the key ({}); see \
             'olb keys list'",
            failure.text
        );
        Failure::new(code::UNAVAILABLE, "not_confirmed", text)
    };
    let Some(info) = root_half.info().map_err(unanswered)? else { return Ok(false) };
    if info.enrolments.iter().any(|one| one.kid == kid) {
        return Ok(true);
    }
    // Only now is the whole trail worth reading: it says why.
    if let Some(record) = root_half.end_of_key(kid, 1).map_err(unanswered)? {
        let what = format!("is revoked in the ledger (record {record}), so it cannot approve");
        return Err(Failure::refused(REVOKED, revoked(kid, &what)));
    }
    Err(Failure::new(
        code::UNAVAILABLE,
        "not_in_force",
        format!(
            "{shown} is there, but the running root half does not take it; 'olb keys list' says why"
        ),
    ))
}
