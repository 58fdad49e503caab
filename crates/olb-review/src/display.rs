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
/// characters, for line and paragraph separators, for every space but U+0020, and for letters
/// without ink. The replacement character is refused too, so that its presence cannot be taken for
/// bytes that were lost.
#[must_use]
pub fn is_safe(character: char) -> bool {
    if character.is_ascii() {
        return character == ' ' || character.is_ascii_graphic();
    }
    // The standard library escapes what is not printable and what extends the character before.
    let is_printable = character.escape_debug().len() == 1;
    is_printable && !BLANK.contains(&character) && !is_selector_or_tag(character)
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
        fn two_inputs_never_look_the_same(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            prop_assert_eq!(a == b, safe(&a) == safe(&b));
        }
    }
}
