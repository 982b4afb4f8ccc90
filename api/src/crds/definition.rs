//! The definitions (CRDs) as they are installed: what the derived schemas need to become those of the public product.
//!
//! `Option` becomes `nullable` and `default` on its way through the schema generator. Both change what the API server stores:
//! a `null` would be kept, a default would be written into objects whose author left the field out. They are removed here.

mod rules;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{
    ActiveActiveInstance, DatabaseTopology, RedisEnterpriseActiveActiveDatabase,
    RedisEnterpriseCluster, RedisEnterpriseDatabase, RedisEnterpriseRemoteCluster,
};

/// A derived definition that does not have the expected form. It means a defect of this build, not of its input.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Not representable as JSON, or not readable from it.
    #[error("the definition of {kind} cannot be rewritten: {source}")]
    Json {
        /// The kind.
        kind: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A part that every definition has is missing.
    #[error("the definition of {kind} has no {path}")]
    Missing {
        /// The kind.
        kind: String,
        /// The part.
        path: &'static str,
    },
}

/// Where the spec stands in a schema.
const SPEC: &str = "/schema/openAPIV3Schema/properties/spec";
/// Where the settings of an Active-Active database stand in a schema.
const GLOBAL_CONFIGURATIONS: &str =
    "/schema/openAPIV3Schema/properties/spec/properties/globalConfigurations";

/// All definitions, in the order in which they are installed.
pub fn all_crds() -> Result<Vec<CustomResourceDefinition>, DefinitionError> {
    Ok(vec![
        finish(RedisEnterpriseCluster::crd(), |crd| {
            default_spec(crd)?;
            type_pod_parts(crd)?;
            obey(crd, SPEC, rules::cluster())?;
            serve_cluster_v1alpha1(crd)
        })?,
        finish(RedisEnterpriseDatabase::crd(), |crd| {
            default_spec(crd)?;
            let mut all = rules::database_settings();
            all.push(rules::database_cluster());
            obey(crd, SPEC, all)
        })?,
        finish(RedisEnterpriseRemoteCluster::crd(), |_| Some(()))?,
        finish(RedisEnterpriseActiveActiveDatabase::crd(), |crd| {
            obey(crd, GLOBAL_CONFIGURATIONS, rules::database_settings())
        })?,
        finish(DatabaseTopology::crd(), |_| Some(()))?,
        finish(ActiveActiveInstance::crd(), |_| Some(()))?,
    ])
}

fn finish(
    crd: CustomResourceDefinition,
    change: fn(&mut Value) -> Option<()>,
) -> Result<CustomResourceDefinition, DefinitionError> {
    let kind = crd.spec.names.kind.clone();
    let json_error = |source| DefinitionError::Json {
        kind: kind.clone(),
        source,
    };
    let missing = |path| DefinitionError::Missing {
        kind: kind.clone(),
        path,
    };

    let mut value = serde_json::to_value(crd).map_err(json_error)?;
    for version in value
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| missing("spec.versions"))?
    {
        let schema = version
            .pointer_mut("/schema/openAPIV3Schema")
            .ok_or_else(|| missing("openAPIV3Schema"))?;
        clean(schema);
    }
    change(&mut value).ok_or_else(|| missing("schema.spec"))?;
    value["metadata"]["labels"] = json!({
        "app": "redis-enterprise",
        "app.kubernetes.io/part-of": "meridian",
    });
    serde_json::from_value(value).map_err(json_error)
}

/// Removes what `Option` and `#[serde(default)]` leave in a schema and its subschemas.
fn clean(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    schema.remove("nullable");
    if schema.get("default").is_some_and(is_zero) {
        schema.remove("default");
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    each_subschema(schema, clean);
}

/// Fields of a cluster's spec whose schema is that of Kubernetes.
const POD_PARTS: [&str; 13] = [
    "bootstrapperResources.claims",
    "extraEnvVars",
    "hostAliases",
    "podAntiAffinity",
    "podTolerations",
    "redisEnterpriseAdditionalPodSpecAttributes",
    "redisEnterpriseNodeResources.claims",
    "redisEnterpriseServicesRiggerResources.claims",
    "redisEnterpriseVolumeMounts",
    "servicesRiggerSpec.extraEnvVars",
    "servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes",
    "sideContainersSpec",
    "volumes",
];
/// Those that are a part of a pod spec to be merged into another, so nothing of it is required.
const POD_SPECS: [&str; 2] = [
    "redisEnterpriseAdditionalPodSpecAttributes",
    "servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes",
];
/// Those that the older version of the kind keeps as they are.
const FREE_IN_V1ALPHA1: [&str; 3] = [
    "redisEnterpriseAdditionalPodSpecAttributes",
    "servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes",
    "sideContainersSpec",
];

/// The schema of a field of the spec, by the path of the field.
fn spec_field<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let pointer = path.replace('.', "/properties/");
    schema.pointer_mut(&format!("/properties/spec/properties/{pointer}"))
}

/// The pod parts of Kubernetes: without their descriptions, which are longer than everything else together, and with
/// the metadata of embedded objects cut to what a person writes.
fn type_pod_parts(crd: &mut Value) -> Option<()> {
    for version in crd.pointer_mut("/spec/versions")?.as_array_mut()? {
        let schema = version.pointer_mut("/schema/openAPIV3Schema")?;
        for path in POD_PARTS {
            let part = spec_field(schema, path)?;
            let description = part.get("description").cloned();
            strip_descriptions(part);
            shorten_metadata(part);
            if let Some(description) = description {
                part["description"] = description;
            }
        }
        for path in POD_SPECS {
            spec_field(schema, path)?
                .as_object_mut()?
                .remove("required");
        }
    }
    Some(())
}

fn strip_descriptions(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    schema.remove("description");
    each_subschema(schema, strip_descriptions);
}

fn shorten_metadata(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    if let Some(Value::Object(fields)) = schema.get_mut("properties")
        && fields.contains_key("managedFields")
    {
        fields.retain(|name, _| {
            ["annotations", "finalizers", "labels", "name", "namespace"].contains(&name.as_str())
        });
    }
    each_subschema(schema, shorten_metadata);
}

/// Calls `visit` for each subschema. Walks along schema keywords, not along keys: a property may be called `default`.
fn each_subschema(schema: &mut Map<String, Value>, visit: fn(&mut Value)) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(visit);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(subschema) = schema.get_mut(keyword) {
            visit(subschema);
        }
    }
    for keyword in ["anyOf", "allOf", "oneOf"] {
        if let Some(Value::Array(subschemas)) = schema.get_mut(keyword) {
            subschemas.iter_mut().for_each(visit);
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Makes `spec` optional: an object without one gets an empty one, for no field of it is required.
fn default_spec(crd: &mut Value) -> Option<()> {
    for version in crd.pointer_mut("/spec/versions")?.as_array_mut()? {
        let schema = version.pointer_mut("/schema/openAPIV3Schema")?;
        schema["properties"]["spec"]["default"] = json!({});
        schema.as_object_mut()?.remove("required");
    }
    Some(())
}

/// Adds rules to the part of each version's schema at `path`.
fn obey(crd: &mut Value, path: &str, rules: Vec<Value>) -> Option<()> {
    for version in crd.pointer_mut("/spec/versions")?.as_array_mut()? {
        version.pointer_mut(path)?["x-kubernetes-validations"] = json!(rules);
    }
    Some(())
}

/// Serves the cluster resource as `v1alpha1`, too: the same fields, `istio` as a legacy method, and free form where the
/// public definition has it.
///
/// No conversion takes place, so an object written in one version is read in the other as it is.
fn serve_cluster_v1alpha1(crd: &mut Value) -> Option<()> {
    let versions = crd.pointer_mut("/spec/versions")?.as_array_mut()?;
    let mut older = versions.first()?.clone();
    older["name"] = json!("v1alpha1");
    older["storage"] = json!(false);
    older["deprecated"] = json!(true);
    older
        .pointer_mut("/schema/openAPIV3Schema/properties/spec/properties/activeActive/properties/method/enum")?
        .as_array_mut()?
        .push(json!("istio"));
    for path in FREE_IN_V1ALPHA1 {
        let field = spec_field(older.pointer_mut("/schema/openAPIV3Schema")?, path)?;
        let description = field.get("description").cloned();
        let free = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        *field = match field["type"].as_str()? {
            "array" => json!({ "type": "array", "items": free }),
            _ => free,
        };
        if let Some(description) = description {
            field["description"] = description;
        }
    }
    versions.push(older);
    Some(())
}
