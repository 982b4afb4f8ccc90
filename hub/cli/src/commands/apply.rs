//! Creates or changes what YAML describes.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use http::Method;
use meridian_api::{
    crds::{RedisEnterpriseActiveActiveDatabase, RedisEnterpriseRemoteCluster},
    validate::read_strictly,
};
use serde_json::{Map, Value, json};

use super::object_path;
use crate::{client::Hub, error::CliError, kinds::Kind, output};

/// A document that goes to the hub.
#[derive(Debug, PartialEq)]
struct Wanted {
    kind: Kind,
    name: String,
    object: Value,
}

/// What a document is.
#[derive(Debug, PartialEq)]
enum Document {
    Wanted(Wanted),
    /// A Secret stays in its cluster; its name.
    Secret(String),
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Created,
    Configured,
    Unchanged,
}

/// Applies every document of a file. All are read before the first one is sent.
pub(crate) async fn apply(hub: &Hub, path: &Path, dry_run: bool) -> Result<(), CliError> {
    let (place, text) = read(path)?;
    let documents = parse(&place, &text)?;
    for document in documents {
        match document {
            Document::Secret(name) => output::note(&format!(
                "secret/{name} was not sent to the hub: apply it in each participating cluster with kubectl"
            )),
            Document::Wanted(wanted) => {
                let change = match send(hub, &wanted, dry_run).await? {
                    Change::Created => "created",
                    Change::Configured => "configured",
                    Change::Unchanged => "unchanged",
                };
                let tried = if dry_run { " (dry run)" } else { "" };
                output::print(&format!(
                    "{}/{} {change}{tried}\n",
                    wanted.kind.noun(),
                    wanted.name
                ))?;
            }
        }
    }
    Ok(())
}

async fn send(hub: &Hub, wanted: &Wanted, dry_run: bool) -> Result<Change, CliError> {
    let only_tried = if dry_run { "?dryRun=All" } else { "" };
    let path = object_path(wanted.kind, &wanted.name);
    let found = match hub.call(Method::GET, &path, None).await {
        Ok(found) => found,
        Err(CliError::Problem(problem)) if problem.status == 404 => {
            let all = format!("{}{only_tried}", wanted.kind.path());
            hub.call(Method::POST, &all, Some(&wanted.object)).await?;
            return Ok(Change::Created);
        }
        Err(error) => return Err(error),
    };
    match changed(&wanted.object, &found) {
        None => Ok(Change::Unchanged),
        Some(object) => {
            let path = format!("{path}{only_tried}");
            hub.call(Method::PUT, &path, Some(&object)).await?;
            Ok(Change::Configured)
        }
    }
}

/// The object to send in place of `found`, if it differs. It carries the version that it was compared with, so that a
/// change made in between is refused and not overwritten.
fn changed(wanted: &Value, found: &Value) -> Option<Value> {
    let part =
        |object: &Value, path: &str| object.pointer(path).cloned().unwrap_or_else(|| json!({}));
    let same = ["/spec", "/metadata/labels"]
        .iter()
        .all(|path| part(wanted, path) == part(found, path));
    if same {
        return None;
    }
    let mut object = wanted.clone();
    if let Some(version) = found.pointer("/metadata/resourceVersion") {
        object["metadata"]["resourceVersion"] = version.clone();
    }
    Some(object)
}

fn read(path: &Path) -> Result<(String, String), CliError> {
    let mut text = String::new();
    let (place, result) = if path == Path::new("-") {
        (
            "standard input".to_owned(),
            io::stdin().read_to_string(&mut text).map(|_| ()),
        )
    } else {
        let read = fs::read_to_string(path).map(|read| text = read);
        (path.display().to_string(), read)
    };
    result.map_err(|source| CliError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok((place, text))
}

fn parse(place: &str, text: &str) -> Result<Vec<Document>, CliError> {
    let wrong = |place: &str, reason: String| CliError::Document {
        place: place.to_owned(),
        reason,
    };
    let values: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| wrong(place, format!("not YAML: {error}")))?;
    let mut documents = Vec::new();
    for (n, value) in values
        .into_iter()
        .enumerate()
        .filter(|(_, value)| !value.is_null())
    {
        let place = format!("{place}, document {}", n + 1);
        documents.push(document(value).map_err(|reason| wrong(&place, reason))?);
    }
    if documents.is_empty() {
        return Err(wrong(place, "found no object".to_owned()));
    }
    Ok(documents)
}

fn document(value: Value) -> Result<Document, String> {
    let Value::Object(mut object) = value else {
        return Err("found no object, expected apiVersion, kind, metadata and spec".to_owned());
    };
    let text = |object: &Map<String, Value>, key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or(format!("found no {key}"))
    };
    let word = text(&object, "kind")?;
    let name = object
        .get("metadata")
        .and_then(|metadata| metadata["name"].as_str())
        .map(str::to_owned);
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or(format!("{word}: found no metadata.name"))?;
    if word == "Secret" {
        return Ok(Document::Secret(name));
    }
    let kind = Kind::of_document(&word).ok_or_else(|| {
        format!(
            "{word} {name:?}: the hub holds RedisEnterpriseActiveActiveDatabase and RedisEnterpriseRemoteCluster; apply \
             everything else in its cluster with kubectl"
        )
    })?;
    text(&object, "apiVersion")?;
    object.remove("status");
    let object = normal(kind, &Value::Object(object))
        .map_err(|reason| format!("{word} {name:?}: {reason}"))?;
    Ok(Document::Wanted(Wanted { kind, name, object }))
}

/// The object as the hub will store it, so that it can be compared with what is stored. A misspelled field is an error.
fn normal(kind: Kind, object: &Value) -> Result<Value, String> {
    let (spec, errors) = match kind {
        Kind::RemoteCluster => {
            let (typed, errors) =
                read_strictly::<RedisEnterpriseRemoteCluster>(object).map_err(|e| e.to_string())?;
            (serde_json::to_value(typed.spec), errors)
        }
        Kind::ActiveActiveDatabase => {
            let (typed, errors) = read_strictly::<RedisEnterpriseActiveActiveDatabase>(object)
                .map_err(|e| e.to_string())?;
            (serde_json::to_value(typed.spec), errors)
        }
        Kind::Cluster | Kind::Token | Kind::ApiToken => {
            return Err("this kind is not written as YAML".to_owned());
        }
    };
    if !errors.is_empty() {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        return Err(errors.join("\n  "));
    }
    let mut object = object.clone();
    object["spec"] = spec.map_err(|error| error.to_string())?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseActiveActiveDatabase\n\
                            metadata: {name: cart}\nspec: {participatingClusters: [{name: eu-1}]}\n";

    #[test]
    fn a_file_may_hold_secrets_and_empty_documents_beside_objects() {
        let text = format!(
            "---\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n---\n{DATABASE}status: {{}}\n"
        );
        let documents = parse("f", &text).unwrap();
        assert_eq!(documents[0], Document::Secret("s".into()));
        let Document::Wanted(wanted) = &documents[1] else {
            panic!("{documents:?}")
        };
        assert_eq!(
            (wanted.kind, wanted.name.as_str()),
            (Kind::ActiveActiveDatabase, "cart")
        );
        assert_eq!(wanted.object.get("status"), None);
    }

    #[test]
    fn what_is_no_object_of_the_hub_is_refused_with_place_and_next_step() {
        for (text, part) in [
            ("a: [", "not YAML"),
            ("", "found no object"),
            ("--- 7\n", "document 1"),
            (
                "kind: RedisEnterpriseActiveActiveDatabase\n",
                "metadata.name",
            ),
            (
                "kind: RedisEnterpriseDatabase\nmetadata: {name: a}\n",
                "with kubectl",
            ),
            (
                "kind: RedisEnterpriseRemoteCluster\nmetadata: {name: a}\n",
                "apiVersion",
            ),
        ] {
            let error = parse("file.yaml", text).unwrap_err().to_string();
            assert!(
                error.contains("file.yaml") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn only_a_difference_is_sent_and_with_the_version_it_was_compared_with() {
        let wanted = json!({ "metadata": { "name": "a" }, "spec": { "x": 1 } });
        let found = json!({
            "metadata": { "name": "a", "resourceVersion": "7", "uid": "u" }, "spec": { "x": 1 }, "status": {},
        });
        assert_eq!(changed(&wanted, &found), None);
        let other = json!({ "metadata": { "name": "a" }, "spec": { "x": 2 } });
        let sent = changed(&other, &found).unwrap();
        assert_eq!(
            (&sent["spec"]["x"], &sent["metadata"]["resourceVersion"]),
            (&json!(2), &json!("7"))
        );
        let labelled =
            json!({ "metadata": { "name": "a", "labels": { "l": "1" } }, "spec": { "x": 1 } });
        assert!(changed(&labelled, &found).is_some());
    }
}
