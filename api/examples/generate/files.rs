//! The generated files: shared by the generator and the test that holds them current.

use std::error::Error;

use meridian_api::crds;

/// Path from the root of the repository, and content, of every generated file.
pub(crate) fn generated() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    crds::all_crds()?
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
        .collect()
}
