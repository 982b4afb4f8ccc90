//! Reads the part of PromQL that our files use, and is strict about it: anything else is an error. Enough to find a name that does
//! not exist, a bracket that is missing, and a function that is given the wrong kind of value.

use std::collections::BTreeSet;

/// Metrics and labels that an expression names.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) names: BTreeSet<String>,
    pub(crate) labels: BTreeSet<String>,
}

/// What an expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Vector,
    Range,
}

/// Functions with what each argument has to be.
const FUNCTIONS: &[(&str, &[Kind], Kind)] = &[
    ("absent", &[Kind::Vector], Kind::Vector),
    ("deriv", &[Kind::Range], Kind::Vector),
    (
        "histogram_quantile",
        &[Kind::Number, Kind::Vector],
        Kind::Vector,
    ),
    ("increase", &[Kind::Range], Kind::Vector),
    ("rate", &[Kind::Range], Kind::Vector),
    ("time", &[], Kind::Number),
];
const AGGREGATIONS: &[&str] = &["count", "max", "min", "sum"];
/// Operators by how weakly they bind, the weakest first.
const OPERATORS: &[&[&str]] = &[
    &["or"],
    &["and", "unless"],
    &["==", "!=", "<=", ">=", "<", ">"],
    &["+", "-"],
    &["*", "/", "%"],
];
const MATCHERS: &[&str] = &["=~", "!~", "!=", "="];

/// Reads an expression.
pub(crate) fn parse(text: &str) -> Result<Query, String> {
    let mut parser = Parser {
        text,
        rest: text,
        query: Query::default(),
    };
    let kind = parser.binary(0)?;
    match (kind, parser.peek()) {
        (Kind::Range, _) => Err(format!("{text:?} gives a range")),
        (_, "") => Ok(parser.query),
        (_, rest) => Err(format!("{rest:?} is left over of {text:?}")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    query: Query,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a str {
        self.rest.trim_start()
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.peek().split_at(length);
        self.rest = rest;
        taken
    }

    /// Takes `token` if it is next; a word only if it ends there.
    fn has(&mut self, token: &str) -> bool {
        let next = self.peek();
        let Some(after) = next.strip_prefix(token) else {
            return false;
        };
        if token.starts_with(is_word) && after.starts_with(is_word) {
            return false;
        }
        self.rest = after;
        true
    }

    fn need(&mut self, token: &str) -> Result<(), String> {
        if self.has(token) {
            return Ok(());
        }
        Err(format!(
            "expected {token:?}, found {:?} in {:?}",
            self.peek(),
            self.text
        ))
    }

    fn word(&mut self) -> &'a str {
        let next = self.peek();
        let end = next.find(|c| !is_word(c)).unwrap_or(next.len());
        self.take(end)
    }

    fn binary(&mut self, level: usize) -> Result<Kind, String> {
        let Some(operators) = OPERATORS.get(level) else {
            return self.postfix();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.has(operator)) {
            if self.has("on") || self.has("ignoring") {
                self.labels()?;
            }
            let right = self.binary(level + 1)?;
            if [left, right].contains(&Kind::Range) {
                return Err(format!("{operator:?} takes no range in {:?}", self.text));
            }
            left = if left == Kind::Number { right } else { left };
        }
        Ok(left)
    }

    /// A value, and the range behind it.
    fn postfix(&mut self) -> Result<Kind, String> {
        let kind = self.value()?;
        if !self.has("[") {
            return Ok(kind);
        }
        let duration = self.word();
        let digits = duration.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &duration[digits.len()..];
        if kind != Kind::Vector
            || digits.parse::<u32>().is_err()
            || !["s", "m", "h", "d"].contains(&unit)
        {
            return Err(format!(
                "{duration:?} is no range of a vector in {:?}",
                self.text
            ));
        }
        self.need("]")?;
        Ok(Kind::Range)
    }

    fn value(&mut self) -> Result<Kind, String> {
        if self.has("(") {
            let kind = self.binary(0)?;
            self.need(")")?;
            return Ok(kind);
        }
        let next = self.peek();
        if next.starts_with(|c: char| c.is_ascii_digit()) {
            let end = next.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let number = self.take(end.unwrap_or(next.len()));
            let parsed = number.parse::<f64>();
            return parsed
                .map(|_| Kind::Number)
                .map_err(|e| format!("{number}: {e}"));
        }
        let word = self.word();
        if word.is_empty() {
            return Err(format!(
                "expected a value, found {next:?} in {:?}",
                self.text
            ));
        }
        if AGGREGATIONS.contains(&word) {
            return self.aggregation(word);
        }
        if self.peek().starts_with('(') {
            return self.function(word);
        }
        self.query.names.insert(word.to_owned());
        if self.peek().starts_with('{') {
            self.matchers()?;
        }
        Ok(Kind::Vector)
    }

    fn aggregation(&mut self, word: &str) -> Result<Kind, String> {
        if self.has("by") || self.has("without") {
            self.labels()?;
        }
        self.need("(")?;
        let kind = self.binary(0)?;
        self.need(")")?;
        if kind == Kind::Vector {
            return Ok(kind);
        }
        Err(format!(
            "{word} takes a vector, found {kind:?} in {:?}",
            self.text
        ))
    }

    fn function(&mut self, word: &str) -> Result<Kind, String> {
        let found = FUNCTIONS.iter().find(|(name, ..)| *name == word);
        let (_, wanted, gives) = found.ok_or_else(|| format!("no function {word} is known"))?;
        self.need("(")?;
        for (at, kind) in wanted.iter().enumerate() {
            if at > 0 {
                self.need(",")?;
            }
            let given = self.binary(0)?;
            if given != *kind {
                let word = format!("{word} takes a {kind:?}").to_lowercase();
                return Err(format!("{word}, found {given:?} in {:?}", self.text));
            }
        }
        self.need(")")?;
        Ok(*gives)
    }

    fn labels(&mut self) -> Result<(), String> {
        self.need("(")?;
        while !self.has(")") {
            let label = self.word();
            if label.is_empty() {
                return Err(format!("expected a label in {:?}", self.text));
            }
            self.query.labels.insert(label.to_owned());
            if !self.has(",") && !self.peek().starts_with(')') {
                return Err(format!("expected \")\" behind {label} in {:?}", self.text));
            }
        }
        Ok(())
    }

    fn matchers(&mut self) -> Result<(), String> {
        self.need("{")?;
        while !self.has("}") {
            let label = self.word();
            self.query.labels.insert(label.to_owned());
            if label.is_empty() || !MATCHERS.iter().any(|matcher| self.has(matcher)) {
                return Err(format!(
                    "expected a matcher, found {:?} in {:?}",
                    self.peek(),
                    self.text
                ));
            }
            self.need("\"")?;
            let end = self
                .rest
                .find('"')
                .ok_or_else(|| format!("a text does not end in {:?}", self.text))?;
            self.rest = &self.rest[end + 1..];
            if !self.has(",") && !self.peek().starts_with('}') {
                return Err(format!("expected \"}}\" behind {label} in {:?}", self.text));
            }
        }
        Ok(())
    }
}
