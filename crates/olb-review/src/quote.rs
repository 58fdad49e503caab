//! Argument vectors as a shell would read them back: what the human sees parses to what runs.
//!
//! Three spellings, the simplest that fits: bare, `'...'`, and `$'...'` (POSIX.1-2024 and every
//! shell in use) for words with bytes that must not reach a terminal or with several spaces in a row,
//! of which nobody sees how many there are. In the last one everything outside printable ASCII, and
//! every space after another, is written as bytes, so that no locale changes the meaning.

use crate::display::{is_safe, push_hex};

/// Words that a shell takes as syntax where a command is expected.
const RESERVED: [&[u8]; 17] = [
    b"case",
    b"coproc",
    b"do",
    b"done",
    b"elif",
    b"else",
    b"esac",
    b"fi",
    b"for",
    b"function",
    b"if",
    b"in",
    b"select",
    b"then",
    b"time",
    b"until",
    b"while",
];

/// One word.
#[must_use]
pub fn word(bytes: &[u8]) -> String {
    if !bytes.is_empty() && bytes.iter().all(|byte| is_bare(*byte)) {
        // Bare bytes are ASCII.
        return String::from_utf8_lossy(bytes).into_owned();
    }
    quoted(bytes)
}

/// A whole command line. The first word is quoted as well where a shell would take it for an
/// assignment or a keyword.
#[must_use]
pub fn command(argv: &[Vec<u8>]) -> String {
    let mut words = Vec::with_capacity(argv.len());
    for (at, bytes) in argv.iter().enumerate() {
        let is_syntax = at == 0 && (bytes.contains(&b'=') || RESERVED.contains(&bytes.as_slice()));
        words.push(if is_syntax { quoted(bytes) } else { word(bytes) });
    }
    words.join(" ")
}

/// A `NAME=value` word. Only the value is quoted, as people write it.
#[must_use]
pub fn assignment(name: &[u8], value: &[u8]) -> String {
    let value = if value.is_empty() { String::new() } else { word(value) };
    format!("{}={value}", crate::display::safe(name))
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte)
}

fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|one| is_safe(one) && one != '\'') && !text.contains("  ") => {
            format!("'{text}'")
        }
        _ => dollar_quoted(bytes),
    }
}

fn dollar_quoted(bytes: &[u8]) -> String {
    let mut text = String::from("$'");
    let mut before = 0;
    for byte in bytes {
        match byte {
            b' ' if before == b' ' => push_hex(&mut text, *byte),
            b'\\' | b'\'' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => push_hex(&mut text, *byte),
        }
        before = *byte;
    }
    text.push('\'');
    text
}

/// `count` and a noun, in the plural where needed.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits a line as bash does for the spellings that [`command`] may use; `None` for a line
    /// with anything else in it.
    fn parse(line: &str) -> Option<Vec<Vec<u8>>> {
        let mut rest = line.as_bytes();
        let mut words = Vec::new();
        while !rest.is_empty() {
            let mut one = Vec::new();
            while let Some((first, after)) = rest.split_first() {
                match first {
                    b' ' => break,
                    b'\'' => {
                        let end = after.iter().position(|byte| *byte == b'\'')?;
                        one.extend_from_slice(&after[..end]);
                        rest = &after[end + 1..];
                    }
                    b'$' => rest = parse_dollar(after.strip_prefix(b"'")?, &mut one)?,
                    byte if is_bare(*byte) => {
                        one.push(*byte);
                        rest = after;
                    }
                    _ => return None,
                }
            }
            words.push(one);
            rest = rest.strip_prefix(b" ").unwrap_or(rest);
        }
        Some(words)
    }

    fn parse_dollar<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
        loop {
            let (first, after) = rest.split_first()?;
            rest = after;
            if *first == b'\'' {
                return Some(rest);
            }
            if *first != b'\\' {
                word.push(*first);
                continue;
            }
            let (kind, after) = rest.split_first()?;
            rest = after;
            match kind {
                b'\\' | b'\'' => word.push(*kind),
                b'n' => word.push(b'\n'),
                b'r' => word.push(b'\r'),
                b't' => word.push(b'\t'),
                b'x' => {
                    let (digits, after) = rest.split_at_checked(2)?;
                    rest = after;
                    word.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                }
                _ => return None,
            }
        }
    }

    fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.to_vec()).collect()
    }

    #[test]
    fn each_word_gets_the_simplest_spelling() {
        let table: [(&[&[u8]], &str); 9] = [
            (&[b"systemctl", b"restart", b"nginx"], "systemctl restart nginx"),
            (&[b"echo", b"", b"a b", b"$HOME"], "echo '' 'a b' '$HOME'"),
            (&[b"sh", b"-c", b"rm -rf / # \xc3\xa9"], "sh -c 'rm -rf / # é'"),
            (&[b"echo", b"it's"], "echo $'it\\'s'"),
            (&[b"echo", b"a\nb\t\x1b[2J\\"], "echo $'a\\nb\\t\\x1b[2J\\\\'"),
            (&[b"echo", b"\xff"], "echo $'\\xff'"),
            (&[b"echo", b"\xe2\x80\xaetxt"], "echo $'\\xe2\\x80\\xaetxt'"),
            (&[b"A=b", b"C=d"], "'A=b' C=d"),
            (&[b"time", b"time"], "'time' time"),
        ];
        for (argv, want) in table {
            assert_eq!(command(&words(argv)), want);
        }
    }

    #[test]
    fn a_trailing_space_shows() {
        assert_eq!(command(&words(&[b"/bin/ls "])), "'/bin/ls '");
        assert_eq!(command(&words(&[b"a   b"])), "$'a \\x20\\x20b'");
        assert_eq!(assignment(b"TZ", b"a b"), "TZ='a b'");
        assert_eq!(assignment(b"TZ", b""), "TZ=");
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back_to_the_argv(
            argv in proptest::collection::vec(any::<Vec<u8>>(), 1..8)
        ) {
            let line = command(&argv);
            prop_assert!(line.chars().all(is_safe), "{}", line);
            prop_assert!(!line.contains("  "), "{}", line);
            prop_assert_eq!(parse(&line), Some(argv));
        }

        #[test]
        fn gaps_parse_back_too(argv in proptest::collection::vec("[ a'1]{0,9}", 1..5)) {
            let argv: Vec<Vec<u8>> = argv.into_iter().map(String::into_bytes).collect();
            let line = command(&argv);
            prop_assert!(!line.contains("  "), "{}", line);
            prop_assert_eq!(parse(&line), Some(argv));
        }

        #[test]
        fn text_parses_back_too(argv in proptest::collection::vec(any::<String>(), 1..8)) {
            let argv: Vec<Vec<u8>> = argv.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(parse(&command(&argv)), Some(argv));
        }
    }
}
