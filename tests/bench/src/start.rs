//! How long the client takes to start, beside programs that do nothing at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bed::Bed;
use crate::client::{olb, step, text};
use crate::latency::in_turn;
use crate::part::{Part, Size};
use crate::runner::Step;

/// The whole of a program that does nothing.
const NOTHING: &str = "int main(void) { return 0; }\n";

/// `olb` on the path of `olb exec` as far as it goes without a broker, and through its argument
/// parser, against `/bin/true` and programs in C that do nothing.
///
/// # Errors
/// A program did not end as it has to.
pub fn measure(bed: &Bed, size: Size) -> Result<Part, String> {
    let programs: Vec<(&str, String)> = [("C, dynamic", None), ("C, static", Some("-static"))]
        .into_iter()
        .filter_map(|(row, flag)| {
            let path = bed.instance.path(&format!("bin/{}", row.replace(", ", "-")));
            compile(NOTHING, flag, &path).then(|| (row, text(&path)))
        })
        .collect();
    let olb = olb(&bed.instance);
    let times = in_turn(bed, size.rounds, || {
        let here = |row: &str, words: &[&str]| step(&bed.instance, row, words);
        let unreadable = [olb.as_str(), "exec", "--lease-file", "/dev/null", "--", "/bin/true"];
        let mut steps = vec![
            here("/bin/true", &["/bin/true", "two", "words"]),
            here("olb --version", &[&olb, "--version"]),
            // It parses its words, looks at its folder, reads an empty lease and says so.
            Step { code: 64, ..here("olb exec, empty lease", &unreadable) },
        ];
        steps.extend(programs.iter().map(|(row, path)| here(row, &[path])));
        steps
    })?;
    Ok(Part { figures: Vec::new(), times })
}

/// Compiles a C program that everybody may start; whether that worked.
pub fn compile(source: &str, flag: Option<&str>, to: &Path) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("program.c");
    fs::write(&file, source).expect("the source");
    let mut command = Command::new("cc");
    command.arg("-O2").args(flag).arg("-o").arg(to).arg(&file).stderr(Stdio::null());
    let is_compiled = command.status().is_ok_and(|status| status.success());
    if is_compiled {
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    is_compiled
}
