//! Numbers as the server reads them.

/// An integer in the server's strict form: decimal digits without sign `+`, spaces, or leading zeros; `-0` is none.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && text != b"-0";
    if !plain || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_have_one_spelling() {
        assert_eq!(integer(b"0"), Some(0));
        assert_eq!(integer(b"-12"), Some(-12));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        for wrong in [
            "",
            "-",
            "-0",
            "+1",
            " 1",
            "1 ",
            "01",
            "1.0",
            "9223372036854775808",
            "abc",
        ] {
            assert_eq!(integer(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
