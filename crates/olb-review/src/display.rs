//! Bytes from strangers as text that shows all of itself: nothing invisible, nothing that moves the
//! cursor, nothing that reorders.

use std::fmt::Write as _;

/// Characters that count as printable letters or marks but show nothing, or nearly nothing.
const BLANK: [char; 8] = [
    '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{2800}', '\u{3164}', '\u{ffa0}', '\u{fffd}',
];

/// Whether `character` may reach a terminal as itself.
///
/// False for control, format (bidirectional and zero-width), private, unassigned and combining
/// characters, for line and paragraph separators, for every space but U+0020, for letters without
/// ink, and for scripts that run from right to left: a terminal that shows them in reading order
/// moves the words around them. The replacement character is refused too, so that its presence cannot be taken for
/// bytes that were lost.
#[must_use]
pub fn is_safe(character: char) -> bool {
    if character.is_ascii() {
        return character == ' ' || character.is_ascii_graphic();
    }
    // The standard library escapes what is not printable and what extends the character before.
    let is_printable = character.escape_debug().len() == 1;
    is_printable
        && !BLANK.contains(&character)
        && !is_selector_or_tag(character)
        && !is_right_to_left(character)
}

/// Bidirectional classes R, AL and AN: the blocks that Unicode keeps for them, assigned or not
/// (DerivedBidiClass.txt).
fn is_right_to_left(character: char) -> bool {
    matches!(
        character,
        '\u{590}'..='\u{8ff}'
            | '\u{fb1d}'..='\u{fdff}'
            | '\u{fe70}'..='\u{fefe}'
            | '\u{10800}'..='\u{10fff}'
            | '\u{1e800}'..='\u{1efff}'
    )
}

fn is_selector_or_tag(character: char) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
}

/// `bytes` as text: what is safe stands for itself, a backslash is doubled, every other character
/// becomes `\u{..}`, and every byte that is not part of UTF-8 becomes `\xNN`. Two different inputs
/// never give the same text.
#[must_use]
pub fn safe(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                _ if is_safe(character) => text.push(character),
                _ => text.extend(character.escape_unicode()),
            }
        }
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

/// As [`safe`], and of several spaces in a row the first one and `\{N more}`: how many there are does
/// not show, and a wide gap can look like the end of a line.
#[must_use]
pub fn spaced(bytes: &[u8]) -> String {
    let shown = safe(bytes);
    let mut text = String::with_capacity(shown.len());
    let mut rest = shown.as_str();
    while let Some(at) = rest.find("  ") {
        let (before, spaces) = rest.split_at(at);
        rest = spaces.trim_start_matches(' ');
        let more = spaces.len() - rest.len() - 1;
        // No other text gives a backslash before a brace.
        text.push_str(&format!("{before} \\{{{more} more}}"));
    }
    text + rest
}

/// Appends `\xNN`.
pub(crate) fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _always_ok = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_in_any_script_stands_for_itself() {
        for text in ["systemctl restart nginx", "Grüße", "日本語", "ok 🦞"] {
            assert_eq!(safe(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_hides_or_moves_is_made_visible() {
        let table: [(&[u8], &str); 10] = [
            (b"a\x1b[2Jb", "a\\u{1b}[2Jb"),
            (b"a\rb\nc\td\0", "a\\u{d}b\\u{a}c\\u{9}d\\u{0}"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"C:\\x", "C:\\\\x"),
            ("a\u{202e}b\u{2066}".as_bytes(), "a\\u{202e}b\\u{2066}"),
            ("a\u{200b}\u{feff}\u{ad}".as_bytes(), "a\\u{200b}\\u{feff}\\u{ad}"),
            ("a\u{a0}b\u{3000}c\u{2028}".as_bytes(), "a\\u{a0}b\\u{3000}c\\u{2028}"),
            ("e\u{301}".as_bytes(), "e\\u{301}"),
            ("\u{e0041}\u{fe0f}\u{3164}".as_bytes(), "\\u{e0041}\\u{fe0f}\\u{3164}"),
            ("\u{9b}\u{85}\u{7f}".as_bytes(), "\\u{9b}\\u{85}\\u{7f}"),
        ];
        for (bytes, want) in table {
            assert_eq!(safe(bytes), want);
        }
    }

    #[test]
    fn nothing_that_runs_from_right_to_left_passes() {
        for text in ["שלום", "مرحبا", "٣", "ܐ", "ﷺ", "ﺍ", "\u{10800}", "\u{1e900}", "\u{1ee00}"]
        {
            let shown = safe(text.as_bytes());
            assert!(shown.is_ascii() && shown.starts_with("\\u{"), "{shown}");
        }
    }

    #[test]
    fn a_gap_says_how_wide_it_is() {
        for (text, want) in [
            ("a b", "a b"),
            ("a  b", "a \\{1 more}b"),
            ("   ", " \\{2 more}"),
            ("a    b  c ", "a \\{3 more}b \\{1 more}c "),
            ("\\{1 more}", "\\\\{1 more}"),
        ] {
            assert_eq!(spaced(text.as_bytes()), want);
        }
    }

    #[test]
    fn the_whole_of_the_dangerous_ranges_is_refused() {
        let ranges = [
            0x00..=0x1f_u32,
            0x7f..=0x9f,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x206f,
            0xfe00..=0xfe0f,
            0xe0000..=0xe01ef,
            0xe000..=0xf8ff,
            0x590..=0x8ff,
            0xfb1d..=0xfdff,
        ];
        for code in ranges.into_iter().flatten() {
            let character = char::from_u32(code).unwrap();
            assert!(!is_safe(character), "U+{code:04X} passes");
        }
    }

    proptest! {
        #[test]
        fn the_output_holds_safe_characters_only(bytes in any::<Vec<u8>>()) {
            prop_assert!(safe(&bytes).chars().all(is_safe));
        }

        #[test]
        fn any_text_gives_safe_characters_only(text in any::<String>()) {
            prop_assert!(safe(text.as_bytes()).chars().all(is_safe));
        }

        #[test]
        fn no_gap_and_no_two_inputs_look_the_same(a in "[ \\\\{}a1more]{0,12}", b in "[ \\\\{}a1more]{0,12}") {
            let [shown, other] = [&a, &b].map(|text| spaced(text.as_bytes()));
            prop_assert!(!shown.contains("  "));
            prop_assert_eq!(a == b, shown == other);
        }

        #[test]
        fn two_inputs_never_look_the_same(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            prop_assert_eq!(a == b, safe(&a) == safe(&b));
        }
    }
}
