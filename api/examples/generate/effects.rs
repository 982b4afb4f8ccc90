//! Which test shows the effect of a field, and which the refusal of its wrong values: `api/tests/effects.txt`. Read by
//! the generator of the field list, and by the house rule that looks every test up in the sources.

use std::error::Error;

use meridian_api::{crds, validate::field_effects};

/// The table, from the root of the repository.
pub(crate) const TABLE: &str = "api/tests/effects.txt";

/// A field of the spec of a public kind.
pub(crate) struct Field {
    pub(crate) kind: String,
    pub(crate) path: String,
    /// Why it has no effect, if it has none.
    pub(crate) inert: Option<&'static str>,
}

/// What a test shows of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// The test fails when the effect is gone.
    Effect,
    /// The test fails when a wrong value is let in, or told with other words.
    Refusal,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Proof<'a> {
    /// Its number, from 1.
    pub(crate) line: usize,
    pub(crate) kind: &'a str,
    pub(crate) field: &'a str,
    pub(crate) shows: Shows,
    /// Folder of the crate in which the test is.
    pub(crate) folder: &'a str,
    /// Name of the function.
    pub(crate) test: &'a str,
}

/// Every field of the public kinds, as far down as something is to be told apart.
pub(crate) fn fields() -> Result<Vec<Field>, Box<dyn Error>> {
    let mut all = Vec::new();
    for crd in crds::all_crds()? {
        let kind = &crd.spec.names.kind;
        let Some(version) = crd.spec.versions.iter().find(|version| version.storage) else {
            continue;
        };
        let schema = serde_json::to_value(&version.schema)?;
        let effects = field_effects(kind, &schema["openAPIV3Schema"]["properties"]["spec"]);
        all.extend(effects.into_iter().map(|effect| Field {
            kind: kind.clone(),
            path: effect.path,
            inert: effect.inert,
        }));
    }
    Ok(all)
}

/// The lines of the table.
///
/// # Errors
/// A line that has not the five words of the table's head, with its number.
pub(crate) fn read(text: &str) -> Result<Vec<Proof<'_>>, String> {
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, field, shows, folder, test] = words[..] else {
                return Err(format!(
                    "{TABLE}:{number}: found {line:?}, expected five words with one space between"
                ));
            };
            let shows = match shows {
                "effect" => Shows::Effect,
                "refusal" => Shows::Refusal,
                other => {
                    return Err(format!(
                        "{TABLE}:{number}: found {other:?}, expected effect or refusal"
                    ));
                }
            };
            Ok(Proof {
                line: number,
                kind,
                field,
                shows,
                folder,
                test,
            })
        })
        .collect()
}

/// Where table and fields do not agree: the line, or 0 for what has none, and what to do.
pub(crate) fn gaps(fields: &[Field], proofs: &[Proof<'_>]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for field in fields.iter().filter(|field| field.inert.is_none()) {
        let shown = proofs.iter().any(|proof| {
            proof.shows == Shows::Effect && proof.kind == field.kind && proof.field == field.path
        });
        if !shown {
            let (kind, path) = (&field.kind, &field.path);
            found.push((
                0,
                format!(
                    "{kind} spec.{path} is effective and no test is named that shows it: add the line \
                     `{kind} {path} effect <folder of the crate> <name of the test>`"
                ),
            ));
        }
    }
    for proof in proofs {
        let field = fields
            .iter()
            .find(|field| field.kind == proof.kind && field.path == proof.field);
        let wrong = match field {
            None => "which is no field of the list: name one as deploy/fields.md does",
            Some(Field { inert: Some(_), .. }) if proof.shows == Shows::Effect => {
                "which has no effect by api/src/validate/warning.rs: remove the line, or make the field effective there"
            }
            Some(_) => continue,
        };
        found.push((
            proof.line,
            format!("{} spec.{}, {wrong}", proof.kind, proof.field),
        ));
    }
    found
}
