//! Saying something to whoever listens. Nobody has to: a reader that went away or a full disk costs
//! the words, never the exit code. The standard macros would end the process there.

use std::fmt::Arguments;
use std::io::Write;

/// A line on standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::out::write(std::io::stdout(), format_args!("{}\n", format_args!($($arg)*))) };
}

/// Text on standard output, without a newline of its own.
macro_rules! say_text {
    ($($arg:tt)*) => { $crate::out::write(std::io::stdout(), format_args!($($arg)*)) };
}

/// A line on standard error.
macro_rules! tell {
    ($($arg:tt)*) => { $crate::out::write(std::io::stderr(), format_args!("{}\n", format_args!($($arg)*))) };
}

pub(crate) use {say, say_text, tell};

/// Writes `words` and sends them off, as far as somebody takes them.
pub(crate) fn write(mut to: impl Write, words: Arguments<'_>) {
    // In one piece: lines of several processes on one terminal stay whole.
    let words = words.to_string();
    to.write_all(words.as_bytes()).and_then(|()| to.flush()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_nobody_takes_are_no_failure() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        write(&full, format_args!("x"));
        let (reader, writer) = olb_sys::pipe::pipe().unwrap();
        drop(reader);
        write(std::fs::File::from(writer), format_args!("x"));
        let mut text = Vec::new();
        write(&mut text, format_args!("{} {}\n", 1, "b"));
        assert_eq!(text, b"1 b\n");
    }
}
