use super::*;

fn schemas() -> Vec<(String, Value)> {
    all_crds()
        .unwrap()
        .into_iter()
        .flat_map(|crd| {
            let kind = crd.spec.names.kind.clone();
            crd.spec.versions.into_iter().map(move |version| {
                let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
                (
                    format!("{kind}/{}", version.name),
                    serde_json::to_value(schema).unwrap(),
                )
            })
        })
        .collect()
}

#[test]
fn print_sizes() {
    for crd in all_crds().unwrap() {
        println!(
            "{} {}",
            crd.spec.names.kind,
            serde_json::to_string(&crd).unwrap().len()
        );
    }
    for (name, schema) in schemas() {
        println!("{name} {}", schema.to_string().matches("nullable").count());
    }
}
