//! The generated files: shared by the generator and the test that holds them current.

use std::{error::Error, fmt::Write};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use meridian_api::{crds, validate::field_effects};

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
    files.push(("deploy/fields.md".to_owned(), fields(&crds)?));
    Ok(files)
}

/// Which field of the public kinds has an effect.
fn fields(crds: &[CustomResourceDefinition]) -> Result<String, Box<dyn Error>> {
    let mut text = String::from(
        "<!-- Generated: cargo run -p meridian-api --example generate -->\n\n# Fields and their effect\n\n\
         Every field of the public kinds is accepted and kept. A field marked *no effect* is named in the condition\n\
         `FieldsNotImplemented` of an object that sets it to anything but its neutral value. A value that breaks a rule is\n\
         refused: with the field, what was found, what was expected, and the next step.\n",
    );
    for crd in crds {
        let kind = &crd.spec.names.kind;
        let Some(version) = crd.spec.versions.iter().find(|version| version.storage) else {
            continue;
        };
        let schema = serde_json::to_value(&version.schema)?;
        let effects = field_effects(kind, &schema["openAPIV3Schema"]["properties"]["spec"]);
        if effects.is_empty() {
            continue;
        }
        writeln!(
            text,
            "\n## {kind}\n\n| field of `spec` | effect |\n|---|---|"
        )?;
        for effect in effects {
            let told = effect.inert.map_or_else(
                || "effective".to_owned(),
                |why| format!("*no effect*: {}", why.replace('<', "&lt;")),
            );
            writeln!(text, "| `{}` | {told} |", effect.path)?;
        }
    }
    Ok(text)
}
