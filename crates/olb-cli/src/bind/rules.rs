//! The rules about operands: the built-in ones, and those of the administrator.

use std::path::PathBuf;

use olb_core::operands::{RULES_BYTES_MAX, Rules};
use olb_review::display::safe;
use olb_sys::file::read_trusted;

use crate::client::Runtime;
use crate::out::tell;

/// Where the administrator's rules are.
const FOLDER: &str = "/etc/olb/operands.d";

/// Reads all rules; what is wrong with a file is told, and the file left out.
pub(super) fn load(runtime: &Runtime) -> Rules {
    let own = runtime.beside("operands.d").filter(|folder| folder.is_dir());
    let folder = own.unwrap_or_else(|| PathBuf::from(FOLDER));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rules") {
            continue;
        }
        let read = |owner| read_trusted(&path, RULES_BYTES_MAX, owner);
        match read(0).or_else(|_| read(olb_sys::harden::effective_uid())) {
            Ok(bytes) => files.push((path.display().to_string(), bytes)),
            Err(error) => tell!("olb: {}", safe(error.to_string().as_bytes())),
        }
    }
    let (rules, errors) = Rules::with_files(files);
    for error in errors {
        tell!("olb: rules left out: {}", safe(error.to_string().as_bytes()));
    }
    rules
}
