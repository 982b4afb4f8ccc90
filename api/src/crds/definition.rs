//! The definitions (CRDs) as they are installed: what the derived schemas need to become those of the public product.
//!
//! `Option` becomes `nullable` and `default` on its way through the schema generator. Both change what the API server stores:
//! a `null` would be kept, a default would be written into objects whose author left the field out. They are removed here.

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

/// All definitions, in the order in which they are installed.
pub fn all_crds() -> Result<Vec<CustomResourceDefinition>, DefinitionError> {
    Ok(vec![
        finish(RedisEnterpriseCluster::crd(), |crd| {
            default_spec(crd)?;
            serve_cluster_v1alpha1(crd)
        })?,
        finish(RedisEnterpriseDatabase::crd(), default_spec)?,
        finish(RedisEnterpriseRemoteCluster::crd(), |_| Some(()))?,
        finish(RedisEnterpriseActiveActiveDatabase::crd(), |_| Some(()))?,
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
        strip_kubernetes_descriptions(schema);
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

/// The pod parts of Kubernetes carry descriptions of their own that are longer than everything else together.
fn strip_kubernetes_descriptions(schema: &mut Value) {
    if let Some(subtree) =
        schema.pointer_mut("/properties/spec/properties/podAntiAffinity/properties")
    {
        for part in subtree
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
        {
            strip_descriptions(part);
        }
    }
}

fn strip_descriptions(schema: &mut Value) {
    let Value::Object(schema) = schema else {
        return;
    };
    schema.remove("description");
    each_subschema(schema, strip_descriptions);
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

/// Serves the cluster resource as `v1alpha1`, too: the same fields, and `istio` as a legacy method.
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
    versions.push(older);
    Some(())
}
