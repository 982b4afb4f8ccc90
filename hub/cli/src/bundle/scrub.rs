//! Takes out of free text what looks like a secret: the second net, for messages and logs, which are not written to hold any. Pure.

/// What stands for a secret.
pub(crate) const GONE: &str = "[removed]";

/// Words after which a value is a secret, lower case.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "bearer",
    "basic",
    "requirepass",
    "masterauth",
    "primaryauth",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "credentials",
    "auth",
    "license",
];

/// What may stand between such a word and its value.
const BETWEEN: &[char] = &[' ', '=', ':', '"', '\'', '`', '\\'];

/// The text without what looks like a secret. Keys and certificates in PEM go as a whole.
pub(crate) fn text(input: &str) -> String {
    let mut out = String::with_capacity(input.len());
    let mut inside = false;
    for line in input.split_inclusive('\n') {
        if line.contains("-----BEGIN") {
            inside = !line.contains("-----END");
            out.push_str(GONE);
            out.push('\n');
        } else if inside {
            inside = !line.contains("-----END");
        } else {
            out.push_str(&self::line(line));
        }
    }
    out
}

/// One line.
fn line(input: &str) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let end = from.find(|c| !is_word(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        rest = after;
        let begins_address = after.starts_with("://");
        if begins_address {
            out.push_str(word);
            rest = address(after, &mut out);
        } else if is_hidden(&out, word) {
            out.push_str(GONE);
        } else if WORDS.contains(&word.to_ascii_lowercase().as_str()) {
            out.push_str(word);
            rest = value(after, &mut out);
        } else {
            out.push_str(word);
        }
    }
    out.push_str(rest);
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-+/~%".contains(c)
}

/// Rules of users spell passwords with `>` and their hashes with `#`. Digests of images are no secret.
fn is_hidden(before: &str, word: &str) -> bool {
    let of_a_user = before.ends_with(['>', '#']) && word.len() >= 8;
    of_a_user || (looks_random(word) && !before.ends_with("sha256:"))
}

/// Removes name and password of an address; returns what is left to read.
fn address<'a>(after: &'a str, out: &mut String) -> &'a str {
    let (scheme, rest) = after.split_at(3);
    out.push_str(scheme);
    let end = rest.find(|c: char| c.is_whitespace() || "/\"'`".contains(c));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let Some(at) = authority.rfind('@') else {
        return rest;
    };
    out.push_str(GONE);
    &rest[at..]
}

/// Removes the value behind a word that announces a secret, if `=` or `:` does say so or a scheme of authorization stands there.
fn value<'a>(after: &'a str, out: &mut String) -> &'a str {
    let begins = after.find(|c| !BETWEEN.contains(&c)).unwrap_or(after.len());
    let (between, rest) = after.split_at(begins);
    if !between.contains(['=', ':']) {
        return after;
    }
    out.push_str(between);
    let quoted = between.ends_with(['"', '\'']);
    let ends =
        |c: char| c == '"' || c == '\n' || (!quoted && (c.is_whitespace() || ",;})'".contains(c)));
    let mut end = rest.find(ends).unwrap_or(rest.len());
    for scheme in ["Bearer ", "Basic ", "bearer ", "basic "] {
        if let Some(more) = rest.strip_prefix(scheme) {
            end = scheme.len() + more.find(ends).unwrap_or(more.len());
        }
    }
    if end > 0 {
        out.push_str(GONE);
    }
    &rest[end..]
}

/// Long and mixed, as no word, name or number is: keys, tokens and hashes. Names of objects and uids have dashes and no capitals.
fn looks_random(word: &str) -> bool {
    let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
    let digits = has(char::is_ascii_digit);
    let mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && digits;
    let hex = word.len() >= 40 && digits && word.chars().all(|c| c.is_ascii_hexdigit());
    (word.len() >= 24 && mixed && !word.contains('/')) || (word.len() >= 40 && mixed) || hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_lines_and_the_rest_stays() {
        for (input, output) in [
            ("password=s3cret next", "password=[removed] next"),
            (
                "{\"password\":\"a b c\",\"x\":1}",
                "{\"password\":\"[removed]\",\"x\":1}",
            ),
            ("Authorization: Bearer abc.def", "Authorization: [removed]"),
            ("token: abc, then", "token: [removed], then"),
            (
                "redis://default:pw@host:6379/0 failed",
                "redis://[removed]@host:6379/0 failed",
            ),
            (
                "https://hub.example.com:8443/x",
                "https://hub.example.com:8443/x",
            ),
            (
                "user default on >hunter2hunter2 ~*",
                "user default on >[removed] ~*",
            ),
            (
                "the Secret `redb-cart` was written",
                "the Secret `redb-cart` was written",
            ),
            ("the token was used", "the token was used"),
            (
                "pod rec-0 uid 8b1f3c2e-5a4d-4d8a-9d0e-0c1b2a3d4e5f",
                "pod rec-0 uid 8b1f3c2e-5a4d-4d8a-9d0e-0c1b2a3d4e5f",
            ),
            ("key Zm9vYmFyYmF6MTIzNDU2Nzg5MEFCQ0Q", "key [removed]"),
        ] {
            assert_eq!(text(input), output);
        }
    }

    #[test]
    fn keys_in_pem_go_as_a_whole() {
        let input = "a\n-----BEGIN PRIVATE KEY-----\nMIIB\nabc\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(text(input), "a\n[removed]\nb\n");
        assert_eq!(text("-----BEGIN X-----\nMII"), "[removed]\n", "cut short");
    }
}
