//! Many mutants in one build: each function that holds a guard gets a second body, without the guard, which an environment
//! variable switches on. So a crate is compiled once for all its mutants, and what judges a mutant differs from what
//! judges the unchanged code by that variable alone.

use std::{collections::BTreeMap, ops::Range};

use super::{Mutant, MutantError, mutate};

/// Names the mutant that is switched on.
pub(super) const SWITCH: &str = "MERIDIAN_MUTANT";

/// A file with mutants in it.
#[derive(Debug)]
pub(super) struct Woven {
    /// The file's text.
    pub(super) text: String,
    /// The lines of each function that has more than one body, and the mutants that these are.
    pub(super) places: Vec<(Range<usize>, Vec<String>)>,
}

/// Puts into `text` those of `mutants` whose guard stands in a function's body. What lies in another's body is left out.
///
/// # Errors
/// [`MutantError::Stale`].
pub(super) fn weave(text: &str, mutants: &[&Mutant]) -> Result<Woven, MutantError> {
    let mut bodies: BTreeMap<usize, (usize, Vec<&Mutant>)> = BTreeMap::new();
    for mutant in mutants {
        mutate(mutant, text)?;
        let find = mutant.find.trim_end_matches('\n');
        let start = text.find(find).unwrap_or_default();
        if let Some(body) = body_around(text, &(start..start + find.len())) {
            let (_, together) = bodies.entry(body.start).or_insert((body.end, Vec::new()));
            together.push(mutant);
        }
    }
    let mut woven = Woven {
        text: String::new(),
        places: Vec::new(),
    };
    let mut copied = 0;
    for (start, (end, mutants)) in bodies {
        if start < copied {
            continue;
        }
        woven.text.push_str(&text[copied..start]);
        let first = woven.text.lines().count().max(1);
        woven
            .text
            .push_str(&bodies_of(&text[start..end], &mutants)?);
        let last = woven.text.lines().count();
        let names = mutants.iter().map(|mutant| mutant.name.clone());
        woven.places.push((first..last + 1, names.collect()));
        copied = end;
    }
    woven.text.push_str(&text[copied..]);
    Ok(woven)
}

fn bodies_of(body: &str, mutants: &[&Mutant]) -> Result<String, MutantError> {
    let mut all = "{".to_owned();
    for mutant in mutants {
        let (name, body) = (&mutant.name, mutate(mutant, body)?);
        all += &format!(
            "if ::std::env::var_os({SWITCH:?}).is_some_and(|on| on == {name:?}) {body} else "
        );
    }
    Ok(all + body + "}")
}

/// The body, with its braces, of the innermost function that holds all of `part`; none for one that is evaluated while
/// compiling.
fn body_around(text: &str, part: &Range<usize>) -> Option<Range<usize>> {
    let mut open: Vec<(usize, bool)> = Vec::new();
    let (mut parens, mut named) = (0_usize, None);
    let mut before = [""; 2];
    for (at, token) in tokens(text) {
        match token {
            "(" | "[" => parens += 1,
            ")" | "]" => parens = parens.saturating_sub(1),
            ";" if named == Some(parens) => named = None,
            "{" => {
                let is_body = named == Some(parens);
                if is_body {
                    named = None;
                }
                open.push((at, is_body));
            }
            "}" => {
                let (start, is_body) = open.pop()?;
                if is_body && start < part.start && part.end <= at {
                    return Some(start..at + 1);
                }
            }
            // A name follows, so this is no type of a function.
            _ if before[1] == "fn" && before[0] != "const" => named = Some(parens),
            _ => {}
        }
        before = [before[1], token];
    }
    None
}

/// Words and single characters of Rust source, without comments, texts and characters in quotes.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let first = rest.chars().next()?;
            let start = at;
            let skipped = skipped(rest, &text[..at]);
            if skipped > 0 {
                at += skipped;
                continue;
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            at += if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                return Some((start, &text[start..at]));
            }
        }
    })
}

/// How long the comment or quotation is that `rest` begins with; 0: it begins with neither.
fn skipped(rest: &str, before: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let hashes = before.len() - before.trim_end_matches('#').len();
    let is_raw = before[..before.len() - hashes].ends_with('r');
    if rest.starts_with('"') && is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return rest[1..]
            .find(&end)
            .map_or(rest.len(), |at| 1 + at + end.len());
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    // A lifetime has no quotation mark after its first letter.
    let is_letter = rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'');
    if rest.starts_with('\'') && is_letter {
        return quoted(rest, '\'');
    }
    0
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, find: &str, replace: &str) -> Mutant {
        Mutant {
            guard: String::new(),
            harm: String::new(),
            file: "a.rs".into(),
            find: find.to_owned(),
            replace: replace.to_owned(),
            test: Vec::new(),
            build: Vec::new(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_function_gets_a_body_for_each_of_its_mutants_and_keeps_its_own() {
        let text = "fn a() -> bool { x }\nfn b(f: fn(u8) -> u8) -> bool {\n    g && h\n}\n";
        let all = [
            mutant("one", "g &&", "true &&"),
            mutant("two", "h\n", "i\n"),
        ];
        let woven = weave(text, &all.iter().collect::<Vec<_>>()).unwrap();
        let flat = woven.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            flat,
            "fn a() -> bool { x } fn b(f: fn(u8) -> u8) -> bool {if \
             ::std::env::var_os(\"MERIDIAN_MUTANT\").is_some_and(|on| on == \"one\") { true && h } else if \
             ::std::env::var_os(\"MERIDIAN_MUTANT\").is_some_and(|on| on == \"two\") { g && i } else { g && h }}"
        );
        let names = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(woven.places, [(2..9, names)]);
    }

    #[test]
    fn braces_in_texts_comments_and_letters_are_none() {
        let text =
            "fn a<'a>(x: &'a str) { // }\n let _ = ('}', \"}\\\"}\", r#\"}\"}\"#); /* } */ g }\n";
        let body = body_around(text, &(text.find("g }").unwrap()..text.len() - 3)).unwrap();
        assert_eq!(body, text.find('{').unwrap()..text.len() - 1);
    }

    #[test]
    fn what_stands_in_no_function_or_in_a_constant_one_is_left_out() {
        let text =
            "const A: bool = g;\nconst fn b() -> bool { h }\ntrait T { fn c(x: [u8; 2]); }\n";
        let all = [mutant("one", "g;", "h;"), mutant("two", "h }", "i }")];
        let woven = weave(text, &all.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((woven.text.as_str(), woven.places.len()), (text, 0));
    }
}
