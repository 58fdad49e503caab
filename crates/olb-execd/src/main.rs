//! `olb-execd`: the root half.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: olb-execd [--config FILE]   (default /etc/olb/execd.conf)\n\
The root half of the OpenClaw Lease Broker; started by systemd or by 'olb dev up'.\n";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap_or("?")).collect();
    let config = match words.as_slice() {
        [] => PathBuf::from("/etc/olb/execd.conf"),
        ["--config", file] => PathBuf::from(file),
        ["--help" | "-h"] => return say(USAGE, ExitCode::SUCCESS),
        ["--version" | "-V"] => {
            let version = concat!("olb-execd ", env!("CARGO_PKG_VERSION"), "\n");
            return say(version, ExitCode::SUCCESS);
        }
        _ => return say(USAGE, ExitCode::from(64)),
    };
    match olb_execd::start::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "olb-execd: {error}").ok();
            ExitCode::from(69)
        }
    }
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    write!(std::io::stdout(), "{text}").ok();
    code
}
