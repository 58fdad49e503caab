//! Diagnostic notation (RFC 8949 section 8) of the examples in SPEC.md, laid out for people.

use ciborium::Value;

/// `bytes` in diagnostic notation. What stands in `embedded` is shown decoded, as `<< ... >>`
/// (RFC 8610 appendix G.3), wherever it stands as a byte string.
pub(super) fn notation(bytes: &[u8], embedded: &[Vec<u8>]) -> String {
    show(&decode(bytes), embedded, 0)
}

fn decode(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

fn show(value: &Value, embedded: &[Vec<u8>], indent: usize) -> String {
    match value {
        Value::Integer(number) => i128::from(*number).to_string(),
        Value::Bytes(bytes) if embedded.contains(bytes) => {
            format!("<< {} >>", show(&decode(bytes), embedded, indent))
        }
        Value::Bytes(bytes) => string(bytes),
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null => "null".into(),
        Value::Array(items) => {
            let items = items.iter().map(|item| show(item, embedded, indent + 2)).collect();
            group('[', items, ']', indent)
        }
        Value::Map(pairs) => {
            let pair = |(key, value): &(Value, Value)| {
                let value = show(value, embedded, indent + 2);
                format!("{}: {value}", show(key, embedded, indent + 2))
            };
            group('{', pairs.iter().map(pair).collect(), '}', indent)
        }
        other => panic!("not in the subset: {other:?}"),
    }
}

/// Bytes that are plain text are shown as such: `'...'` is a byte string in this notation.
fn string(bytes: &[u8]) -> String {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) && !b"'\\".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(plain) => format!("'{text}'"),
        _ => format!("h'{}'", crate::id::hex(bytes)),
    }
}

fn group(open: char, items: Vec<String>, close: char, indent: usize) -> String {
    let line = items.join(", ");
    if indent + line.len() <= 84 && !line.contains('\n') {
        return format!("{open}{line}{close}");
    }
    let pad = " ".repeat(indent + 2);
    let lines: Vec<_> = items.iter().map(|item| format!("{pad}{item}")).collect();
    format!("{open}\n{}\n{}{close}", lines.join(",\n"), " ".repeat(indent))
}
