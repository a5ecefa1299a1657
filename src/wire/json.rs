//! A JSON scanner (RFC 8259) for the path of an event: finds where a value ends and whether it is well-formed, without
//! building anything. Other JSON goes through `serde_json`.

use std::borrow::Cow;

use crate::limits::JSON_DEPTH_MAX;

/// What is wrong with a JSON text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// What was found or missing, in words.
    pub what: &'static str,
    /// Offset in bytes, from 0.
    pub at: usize,
}

const fn error(what: &'static str, at: usize) -> JsonError {
    JsonError { what, at }
}

/// A byte that ends the plain part of a string: a quote, a backslash or a control character.
const STRING_STOP: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Reads a JSON object into a struct. `serde_json` alone would also take an array of the fields' values, in order, which
/// is nothing that a client should come to rely on.
pub fn object<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, serde_json::Error> {
    match text.get(skip_space(text, 0)) {
        Some(b'{') | None => serde_json::from_slice(text),
        Some(_) => Err(serde::de::Error::custom("expected an object")),
    }
}

/// The offset of the first byte at or after `at` that is not JSON white space.
#[inline]
pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// The offset behind the string that starts at `at` with a quote.
#[inline]
fn string_end(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    at += 1;
    loop {
        while let Some(&byte) = text.get(at) {
            if STRING_STOP[usize::from(byte)] {
                break;
            }
            at += 1;
        }
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape_end(text, at)?,
            Some(_) => return Err(error("a raw control character in a string", at)),
            None => return Err(error("the text ends within a string", at)),
        }
    }
}

/// The offset behind the escape that starts at `at` with a backslash. Lone surrogates are refused, since what follows
/// the escape could not be decoded to UTF-8 by every client.
fn escape_end(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match hex4(text, at + 2)? {
            0xDC00..=0xDFFF => Err(error("a lone low surrogate", at)),
            0xD800..=0xDBFF => {
                if text.get(at + 6) != Some(&b'\\') || text.get(at + 7) != Some(&b'u') {
                    return Err(error("a lone high surrogate", at));
                }
                match hex4(text, at + 8)? {
                    0xDC00..=0xDFFF => Ok(at + 12),
                    _ => Err(error("a lone high surrogate", at)),
                }
            }
            _ => Ok(at + 6),
        },
        Some(_) => Err(error("an unknown escape", at)),
        None => Err(error("the text ends within a string", at)),
    }
}

fn hex4(text: &[u8], at: usize) -> Result<u32, JsonError> {
    let digits = text.get(at..at + 4).ok_or(error("the text ends within an escape", text.len()))?;
    digits.iter().enumerate().try_fold(0, |value, (index, &digit)| {
        let digit = char::from(digit).to_digit(16).ok_or(error("an escape without four hex digits", at + index))?;
        Ok(value << 4 | digit)
    })
}

#[inline]
fn digits_end(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let mut end = at;
    while let Some(b'0'..=b'9') = text.get(end) {
        end += 1;
    }
    if end == at { Err(error("a digit is missing", at)) } else { Ok(end) }
}

fn number_end(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits_end(text, at)? };
    if text.get(at) == Some(&b'.') {
        at = digits_end(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits_end(text, at)?;
    }
    Ok(at)
}

fn literal_end(text: &[u8], at: usize, literal: &'static [u8]) -> Result<usize, JsonError> {
    if text[at..].starts_with(literal) { Ok(at + literal.len()) } else { Err(error("not a JSON value", at)) }
}

/// The offset behind the value that starts at `at` (no white space before it).
///
/// `text` must be valid UTF-8. Nesting deeper than [`JSON_DEPTH_MAX`] is an error; no recursion, no allocation.
pub fn value_end(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    // One bit a level: 1 for an object, 0 for an array.
    let mut stack: u64 = 0;
    let mut depth: u32 = 0;
    'value: loop {
        match text.get(at) {
            Some(b'"') => at = string_end(text, at)?,
            Some(b'-' | b'0'..=b'9') => at = number_end(text, at)?,
            Some(b't') => at = literal_end(text, at, b"true")?,
            Some(b'f') => at = literal_end(text, at, b"false")?,
            Some(b'n') => at = literal_end(text, at, b"null")?,
            Some(&open @ (b'{' | b'[')) => {
                if depth == JSON_DEPTH_MAX {
                    return Err(error("nested deeper than 64 levels", at));
                }
                let is_object = open == b'{';
                let inner = skip_space(text, at + 1);
                let close = if is_object { b'}' } else { b']' };
                if text.get(inner) == Some(&close) {
                    at = inner + 1;
                } else {
                    depth += 1;
                    stack = stack << 1 | u64::from(is_object);
                    at = if is_object { key_end(text, inner)? } else { inner };
                    continue 'value;
                }
            }
            Some(_) => return Err(error("not a JSON value", at)),
            None => return Err(error("the text ends where a value should start", at)),
        }
        // A value ended: close what it closes, or go on to the next one.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = skip_space(text, at);
            let is_object = stack & 1 == 1;
            match text.get(at) {
                Some(b',') => {
                    at = skip_space(text, at + 1);
                    if is_object {
                        at = key_end(text, at)?;
                    }
                    continue 'value;
                }
                Some(b'}') if is_object => {}
                Some(b']') if !is_object => {}
                Some(_) if is_object => return Err(error("a comma or } is missing", at)),
                Some(_) => return Err(error("a comma or ] is missing", at)),
                None => return Err(error("the text ends within a value", at)),
            }
            at += 1;
            depth -= 1;
            stack >>= 1;
        }
    }
}

/// The offset of the value of the member whose name starts at `at`.
#[inline]
fn key_end(text: &[u8], at: usize) -> Result<usize, JsonError> {
    if text.get(at) != Some(&b'"') {
        return Err(error("a member's name is missing", at));
    }
    let colon = skip_space(text, string_end(text, at)?);
    if text.get(colon) != Some(&b':') {
        return Err(error("a colon is missing", colon));
    }
    Ok(skip_space(text, colon + 1))
}

/// Calls `each` with the name (without its quotes, and with its escapes resolved) and the value (as written) of each member
/// of the one object that `text` must be, with only white space around it.
pub fn members<'a>(
    text: &'a [u8],
    mut each: impl FnMut(&[u8], &'a [u8]) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'{') {
        return Err(error("an object is expected", at));
    }
    at = skip_space(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return finish(text, at + 1);
    }
    loop {
        if text.get(at) != Some(&b'"') {
            return Err(error("a member's name is missing", at));
        }
        let name = &text[at..string_end(text, at)?];
        let value = key_end(text, at)?;
        let end = value_end(text, value)?;
        if name.contains(&b'\\') {
            let name = string(name).ok_or(error("a member's name is no text", at))?;
            each(name.as_bytes(), &text[value..end])?;
        } else {
            each(&name[1..name.len() - 1], &text[value..end])?;
        }
        at = skip_space(text, end);
        match text.get(at) {
            Some(b',') => at = skip_space(text, at + 1),
            Some(b'}') => return finish(text, at + 1),
            Some(_) => return Err(error("a comma or } is missing", at)),
            None => return Err(error("the text ends within a value", at)),
        }
    }
}

fn finish(text: &[u8], at: usize) -> Result<(), JsonError> {
    let at = skip_space(text, at);
    if at == text.len() { Ok(()) } else { Err(error("something follows the value", at)) }
}

/// The text of a string that [`value_end`] accepted, quotes included in `raw`; `None` where `raw` is no string.
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(raw).ok().map(Cow::Owned)
}

/// Appends `text` as a JSON string. Everything that is not printable is escaped, so that no reader sees a line break.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| STRING_STOP[usize::from(byte)]) {
        serde_json::to_writer(&mut *out, text).expect("writing to a Vec cannot fail");
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Result<(), JsonError> {
        let start = skip_space(text.as_bytes(), 0);
        finish(text.as_bytes(), value_end(text.as_bytes(), start)?)
    }

    #[test]
    fn depth_is_bounded_exactly() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(whole(&nested(64)), Ok(()));
        assert_eq!(whole(&nested(65)).unwrap_err().what, "nested deeper than 64 levels");
        assert!(whole(&"[".repeat(10_000)).is_err());
        let objects = format!("{}1{}", r#"{"a":"#.repeat(64), "}".repeat(64));
        assert_eq!(whole(&objects), Ok(()));
    }

    #[test]
    fn positions_are_told() {
        assert_eq!(whole(r#"{"a":1,}"#).unwrap_err().at, 7);
        assert_eq!(whole("[1 2]").unwrap_err().at, 3);
        assert_eq!(whole("\"a\nb\"").unwrap_err(), error("a raw control character in a string", 2));
        assert_eq!(whole("{} x").unwrap_err().at, 3);
    }

    #[test]
    fn members_are_found_as_written() {
        let mut seen = Vec::new();
        members(br#" {"a" : [1, {"b":2}] , "c\n":"x\"y"} "#, |name, value| {
            seen.push((name.to_vec(), value.to_vec()));
            Ok(())
        })
        .unwrap();
        let expected: Vec<(Vec<u8>, Vec<u8>)> =
            vec![(b"a".to_vec(), br#"[1, {"b":2}]"#.to_vec()), (b"c\n".to_vec(), br#""x\"y""#.to_vec())];
        assert_eq!(seen, expected);
        assert_eq!(string(br#""x\"y""#).unwrap(), "x\"y");
        assert!(members(b"{}", |_, _| Ok(())).is_ok());
        assert!(members(b"[]", |_, _| Ok(())).is_err());
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "\\PC*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                prop::collection::btree_map("\\PC*", inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn accepts_what_serde_writes(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(whole(&text), Ok(()));
        }

        #[test]
        fn agrees_with_serde_on_broken_text(value in any_json(), at in any::<prop::sample::Index>(), byte in "[ -~\\n]") {
            let mut text = serde_json::to_string(&value).unwrap().into_bytes();
            let at = at.index(text.len());
            text[at] = byte.as_bytes()[0];
            let Ok(text) = String::from_utf8(text) else { return Ok(()) };
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            // Numbers out of range and lone surrogates are where readers differ; both are syntax to one of us.
            if theirs != whole(&text).is_ok() {
                prop_assert!(text.contains("\\u") || text.contains(['e', 'E']), "{}", text);
            }
        }

        #[test]
        fn strings_round_trip(text in any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(value_end(&out, 0), Ok(out.len()));
            prop_assert_eq!(string(&out).unwrap(), text);
            prop_assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
        }
    }
}
