//! Putting a file in place whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use olb_sys::file::write_new_private;

/// Makes `bytes` the content of `path`, with exactly `mode`; durable when this returns. Whoever
/// looks, also after a power cut, finds what was there before or all of this.
///
/// # Errors
/// Nothing has changed; or all of it is there and the folder cannot be synced, so that a power cut
/// may bring back what was there before.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".draft");
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    write_new_private(&draft, bytes, mode)?;
    fs::rename(&draft, path)?;
    sync_folder_of(path)
}

/// Makes durable which names there are beside `path`.
///
/// # Errors
/// The folder cannot be opened or synced.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.conf");
        fs::write(dir.path().join("alice.conf.draft"), "left by a crash").unwrap();
        for text in ["one\n", "two\n"] {
            replace(&path, text.as_bytes(), 0o644).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
