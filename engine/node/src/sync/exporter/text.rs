//! The text format of Prometheus, version 0.0.4. Written here because names that people know from the vendor's exporter are counters
//! without the suffix that libraries for the newer format force upon them. Pure.

use std::fmt::{Display, Write as _};

/// The content type of a [`Page`].
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a value does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only rises, and begins again at 0 with the process that counts.
    Counter,
}

/// A metric: everything about it that is the same in every sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// What it means, with its unit.
    pub help: &'static str,
}

impl Family {
    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            help,
        }
    }

    pub(super) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            help,
        }
    }

    /// `true` if users of Redis Enterprise know the name.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.name.starts_with("meridian_")
    }
}

/// Names and values of a sample's labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// What a scrape is answered with.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Adds a family with its samples; nothing if there are none.
    pub(super) fn family<Name: Display>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (Vec<(Name, String)>, f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let Family { name, help, .. } = family;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            self.line(format_args!(
                "{name}{{{}}} {}",
                labels.join(","),
                number(value)
            ));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _infallible = self.text.write_fmt(line);
        self.text.push('\n');
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else {
        value.to_string()
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_samples_is_not_named_and_values_are_escaped() {
        let mut page = Page::default();
        let one = Family::gauge("one_bytes", "The first");
        page.family(&one, [] as [(Labels, f64); 0]);
        let label = vec![("db", "a\"b\\c\nd".to_owned())];
        page.family(&one, [(label, 3.0), (Labels::new(), f64::INFINITY)]);
        assert_eq!(
            page.into_text(),
            "# HELP one_bytes The first\n# TYPE one_bytes gauge\none_bytes{db=\"a\\\"b\\\\c\\nd\"} 3\none_bytes{} +Inf\n"
        );
    }
}
