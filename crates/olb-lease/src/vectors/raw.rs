//! CBOR by hand, able to break every rule that the crate's own writer keeps.

/// A head in its shortest form.
pub(super) fn head(major: u8, value: u64) -> Vec<u8> {
    let digits = value.to_be_bytes();
    let (info, width) = match value {
        0..=23 => return vec![(major << 5) | digits[7]],
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    [&[(major << 5) | info], &digits[8 - width..]].concat()
}

pub(super) fn uint(value: u64) -> Vec<u8> {
    head(0, value)
}

pub(super) fn int(value: i64) -> Vec<u8> {
    if value < 0 { head(1, (!value).unsigned_abs()) } else { head(0, value.unsigned_abs()) }
}

pub(super) fn bytes(body: &[u8]) -> Vec<u8> {
    [head(2, body.len() as u64), body.to_vec()].concat()
}

pub(super) fn text(body: &str) -> Vec<u8> {
    [head(3, body.len() as u64), body.into()].concat()
}

pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

pub(super) fn null() -> Vec<u8> {
    vec![0xf6]
}

/// Splits the first item off well-formed deterministic CBOR.
fn take_item(input: &[u8]) -> (&[u8], &[u8]) {
    let (major, info) = (input[0] >> 5, input[0] & 31);
    let width = [1, 2, 4, 8].get(usize::from(info).wrapping_sub(24)).copied().unwrap_or(0);
    let value = match width {
        0 => usize::from(info),
        _ => input[1..=width].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)),
    };
    let mut end = 1 + width;
    match major {
        2 | 3 => end += value,
        4 | 5 => {
            for _ in 0..value * usize::from(major - 3) {
                end += take_item(&input[end..]).0.len();
            }
        }
        _ => {}
    }
    input.split_at(end)
}

/// The items of an encoded array.
pub(super) fn items(input: &[u8]) -> Vec<Vec<u8>> {
    let count = usize::from(input[0] & 31);
    assert!(count < 24, "the fixtures hold no long array of interest");
    let mut rest = &input[1..];
    let mut out = Vec::new();
    for _ in 0..count {
        let (item, after) = take_item(rest);
        out.push(item.to_vec());
        rest = after;
    }
    out
}

/// The array of `parts` with the item at `at` replaced.
pub(super) fn replaced(parts: &[Vec<u8>], at: usize, value: Vec<u8>) -> Vec<u8> {
    let mut parts = parts.to_vec();
    parts[at] = value;
    array(&parts)
}

/// A map by its encoded pairs, in any order and with any defect.
#[derive(Clone)]
pub(super) struct Map(pub(super) Vec<(Vec<u8>, Vec<u8>)>);

impl Map {
    /// The pairs of an encoded map of fewer than 24.
    pub(super) fn of(input: &[u8]) -> Self {
        let mut rest = &input[1..];
        let mut pairs = Vec::new();
        for _ in 0..input[0] & 31 {
            let (key, after) = take_item(rest);
            let (value, after) = take_item(after);
            pairs.push((key.to_vec(), value.to_vec()));
            rest = after;
        }
        Self(pairs)
    }

    fn at(&self, key: i64) -> usize {
        let key = int(key);
        self.0.iter().position(|pair| pair.0 == key).expect("the key is there")
    }

    pub(super) fn get(&self, key: i64) -> Vec<u8> {
        self.0[self.at(key)].1.clone()
    }

    /// The map with another value.
    pub(super) fn with(&self, key: i64, value: Vec<u8>) -> Self {
        let mut map = self.clone();
        let at = map.at(key);
        map.0[at].1 = value;
        map
    }

    /// The map with another key in the same place.
    pub(super) fn rekeyed(&self, key: i64, new: Vec<u8>) -> Self {
        let mut map = self.clone();
        let at = map.at(key);
        map.0[at].0 = new;
        map
    }

    pub(super) fn without(&self, key: i64) -> Self {
        let mut map = self.clone();
        let at = map.at(key);
        map.0.remove(at);
        map
    }

    /// The map with the pairs of two keys exchanged.
    pub(super) fn swapped(&self, one: i64, other: i64) -> Self {
        let mut map = self.clone();
        let (one, other) = (map.at(one), map.at(other));
        map.0.swap(one, other);
        map
    }

    /// The map with one more pair in the place `at`.
    pub(super) fn inserted(&self, at: usize, key: Vec<u8>, value: Vec<u8>) -> Self {
        let mut map = self.clone();
        map.0.insert(at, (key, value));
        map
    }

    /// The map with one more pair at its end.
    pub(super) fn plus(&self, key: Vec<u8>, value: Vec<u8>) -> Self {
        let mut map = self.clone();
        map.0.push((key, value));
        map
    }

    /// An array of the same items.
    pub(super) fn flat(&self) -> Vec<u8> {
        let items: Vec<_> = self.0.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
        array(&items)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> =
            self.0.iter().flat_map(|(k, v)| [k.clone(), v.clone()].concat()).collect();
        [head(5, self.0.len() as u64), body].concat()
    }
}
