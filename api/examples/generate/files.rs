//! The generated files: shared by the generator and the test that holds them current.

use std::{error::Error, fmt::Write};

use meridian_api::crds;

use effects::{Field, Proof, Shows};

#[path = "effects.rs"]
mod effects;

/// Path from the root of the repository, and content, of every generated file.
pub(crate) fn generated() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let crds = crds::all_crds()?;
    let mut files = crds
        .iter()
        .map(|crd| {
            let path = format!(
                "deploy/crds/{}.{}.yaml",
                crd.spec.group, crd.spec.names.plural
            );
            let yaml = serde_saphyr::to_string(&serde_json::to_value(crd)?)?;
            Ok((
                path,
                format!("# Generated: cargo run -p meridian-api --example generate\n{yaml}"),
            ))
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    files.push(("deploy/fields.md".to_owned(), fields()?));
    Ok(files)
}

/// What each field of the public kinds does, and which tests show it.
fn fields() -> Result<String, Box<dyn Error>> {
    let mut text = String::from(
        "<!-- Generated: cargo run -p meridian-api --example generate -->\n\n# Fields and their effect\n\n\
         Every field of the public kinds is accepted and kept, and is one of these:\n\n\
         - *effective*, with the tests that fail when its effect is gone;\n\
         - *inert*: an object that sets it to anything but its neutral value is named in its condition\n\
         \u{20}\u{20}`FieldsNotImplemented` with the reason given here. For databases and remote clusters, admission shows the same as a\n\
         \u{20}\u{20}warning; clusters are not seen by the webhook;\n\
         - *refused* in the values that break a rule, with the field, what was found, what was expected and the next step. The\n\
         \u{20}\u{20}tests that hold these refusals stand in the last column. Words that the schema does not list and values of another\n\
         \u{20}\u{20}type are refused by the API server itself.\n\n\
         A test is named with the folder of its crate. The names come from `api/tests/effects.txt`.\n",
    );
    let table = include_str!("../../tests/effects.txt");
    let proofs = effects::read(table)?;
    let fields = effects::fields()?;
    let gaps = effects::gaps(&fields, &proofs);
    if let Some((line, what)) = gaps.first() {
        return Err(format!("{}:{line}: {what}", effects::TABLE).into());
    }
    let mut kind = "";
    for field in &fields {
        if field.kind != kind {
            kind = &field.kind;
            writeln!(
                text,
                "\n## {kind}\n\n| field of `spec` | effect | refused values |\n|---|---|---|"
            )?;
        }
        let effect = match field.inert {
            None => format!("effective: {}", tests(field, &proofs, Shows::Effect)),
            Some(why) => format!(
                "*inert* (condition `FieldsNotImplemented`): {}",
                why.replace('<', "&lt;")
            ),
        };
        let refused = tests(field, &proofs, Shows::Refusal);
        writeln!(text, "| `{}` | {effect} | {refused} |", field.path)?;
    }
    Ok(text)
}

/// The tests of one field as a cell of the list.
fn tests(field: &Field, proofs: &[Proof<'_>], shows: Shows) -> String {
    let named: Vec<String> = proofs
        .iter()
        .filter(|proof| {
            proof.shows == shows && proof.kind == field.kind && proof.field == field.path
        })
        .map(|proof| format!("{} `{}`", proof.folder, proof.test))
        .collect();
    named.join(", ")
}
