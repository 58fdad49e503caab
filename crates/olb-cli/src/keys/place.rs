//! Where a broker keeps its files, for commands that change them: as its root half is configured.

use std::path::{Path, PathBuf};

use olb_exec_api::Lines;
use olb_review::display::safe;
use olb_sys::file::read_trusted;

use crate::client::Runtime;
use crate::failure::Failure;

/// Configuration of the installed broker's root half.
const CONFIG_FILE: &str = "/etc/olb/execd.conf";
/// A configuration is at most this long, in bytes.
const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Enrolments of the installed broker, where its configuration cannot be read.
const APPROVERS_DIR: &str = "/etc/olb/approvers.d";

/// What `execd.conf` says of places.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The file itself.
    pub(crate) config_file: PathBuf,
    /// The broker's host name.
    pub(crate) host: String,
    /// Sockets and public keys.
    pub(crate) runtime_dir: PathBuf,
    /// The root half's private keys and its ledger.
    pub(crate) state_dir: PathBuf,
    /// Enrolments.
    pub(crate) approvers_dir: PathBuf,
    /// Whose all of this is: the uid that the root half runs as.
    pub(crate) owner: u32,
}

impl Place {
    /// Of the configuration at `config`; without one, of the instance that `OLB_RUNTIME_DIR` names,
    /// else of the installed broker.
    ///
    /// # Errors
    /// There is none, somebody else could have written it, or it does not read.
    pub(crate) fn find(config: Option<&Path>) -> Result<Self, Failure> {
        if let Some(config) = config {
            return Self::read(config);
        }
        let beside = Runtime::for_operator()?.beside("state/execd.conf");
        Self::read(&beside.filter(|path| path.exists()).unwrap_or_else(|| CONFIG_FILE.into()))
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let unusable = |why: &str| {
            Failure::usage(format!(
                "the root half's configuration cannot be used: {}; name the right one",
                safe(why.as_bytes())
            ))
        };
        let own = olb_sys::harden::effective_uid();
        let by = |owner: u32| read_trusted(path, CONFIG_BYTES_MAX, owner).map(|text| (owner, text));
        let (owner, bytes) = by(0)
            .or_else(|error| by(own).map_err(|_| error))
            .map_err(|error| unusable(&error.to_string()))?;
        let shown = path.display();
        let wrong = |error| unusable(&format!("{shown}: {error}"));
        let mut lines = Lines::parse(&bytes).map_err(wrong)?;
        let mut take = |key| lines.text(key).map_err(wrong);
        Ok(Self {
            config_file: path.to_owned(),
            host: take("host")?,
            runtime_dir: take("runtime_dir")?.into(),
            state_dir: take("state_dir")?.into(),
            approvers_dir: take("approvers_dir")?.into(),
            owner,
        })
    }
}

/// The folder of enrolments: the one given, else the configured one, else the usual one.
///
/// # Errors
/// `OLB_RUNTIME_DIR` names a folder that others can change.
pub(crate) fn approvers_dir(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = given {
        return Ok(dir.to_owned());
    }
    let beside = Runtime::for_operator()?.beside("state/approvers.d");
    Ok(match Place::find(None) {
        Ok(place) => place.approvers_dir,
        Err(_) => beside.filter(|dir| dir.is_dir()).unwrap_or_else(|| APPROVERS_DIR.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("execd.conf");
        let text = "# ours\nhost = web-1\nfront_uid = 7\nruntime_dir = /r\nstate_dir = /s\n\
                    approvers_dir = /a\nrequesters = 1001\nmax_executions = 3\n";
        std::fs::write(&path, text).unwrap();
        let place = Place::find(Some(&path)).unwrap();
        assert_eq!((place.host.as_str(), place.state_dir.as_path()), ("web-1", Path::new("/s")));
        assert_eq!((place.runtime_dir, place.approvers_dir), ("/r".into(), "/a".into()));
    }

    #[test]
    fn a_configuration_that_others_can_write_or_that_does_not_read_is_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("execd.conf");
        assert_eq!(Place::find(Some(&path)).unwrap_err().code, 64);
        std::fs::write(&path, "host = web-1\nhost = web-2\n").unwrap();
        let failure = Place::find(Some(&path)).unwrap_err();
        assert!(failure.text.contains("line 2 gives a key again"), "{}", failure.text);
        std::fs::write(&path, "host = h\nruntime_dir = /r\nstate_dir = /s\napprovers_dir = /a\n")
            .unwrap();
        assert!(Place::find(Some(&path)).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(Place::find(Some(&path)).unwrap_err().code, 64);
    }
}
