//! What a request carries beside its path and body. Nothing is ignored: a parameter that a path does not take, or a value
//! that it does not know, refuses the request, because a write whose `dryRun` was misspelled would be carried out.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Extension;
use axum::extract::{FromRequestParts, MatchedPath, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;
use meridian_api::ids::Revision;
use meridian_api::validate::FieldError;

use super::answer::Failure;
use super::auth::Caller;
use super::operations::{self, Parameter};
use super::pages::Part;
use super::trail::Way;
use crate::app::repeats::Once;
use crate::app::writes::{Actor, Manner};
use crate::domain::access::grant::Scope;

/// The checked parameters of a request.
#[derive(Clone, Debug)]
pub(super) struct Params {
    given: BTreeMap<&'static str, String>,
    by: Actor,
}

/// Refuses what the path does not take.
pub(super) async fn check(
    path: MatchedPath,
    Extension(caller): Extension<Caller>,
    Extension(way): Extension<Way>,
    mut request: Request,
    next: Next,
) -> Response {
    let taken = operations::taken(request.method().as_str(), path.as_str());
    match Params::read(taken, request.uri(), request.headers()) {
        Ok(given) => {
            let by = caller.actor(&way);
            let params = Params { given, by };
            request.extensions_mut().insert(params);
            next.run(request).await
        }
        Err(fault) => Failure::from(fault).into_response(),
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let checked = parts.extensions.get::<Self>().cloned();
        checked.ok_or_else(|| {
            Failure::from(Fault::Internal {
                detail: "the parameters of a request were not checked".to_owned(),
            })
        })
    }
}

impl Params {
    fn read(
        taken: &[Parameter],
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<BTreeMap<&'static str, String>, Fault> {
        let mut read = BTreeMap::new();
        let mut errors = Vec::new();
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let query = query.map_err(|e| {
            refusal(vec![error(
                "query",
                &e.to_string(),
                "?name=value&name=value",
            )])
        })?;
        for (name, value) in query.0 {
            let known = taken
                .iter()
                .find(|one| !one.is_header() && one.name() == name);
            match known {
                None => errors.push(unknown(&name, &value, taken)),
                Some(known) if read.insert(known.name(), value.clone()).is_some() => {
                    errors.push(error(&name, &value, "the parameter once"));
                }
                Some(_) => {}
            }
        }
        for header in Parameter::ALL.iter().filter(|one| one.is_header()) {
            let values: Vec<_> = headers.get_all(header.name()).iter().collect();
            if values.is_empty() {
                continue;
            }
            let values = values
                .iter()
                .map(|value| value.to_str().unwrap_or("\u{fffd}"));
            let value = values.collect::<Vec<_>>().join(", ");
            if taken.contains(header) {
                read.insert(header.name(), value);
            } else if *header != Parameter::IfNoneMatch {
                errors.push(unknown(header.name(), &value, taken));
            }
        }
        let params = Self {
            given: read,
            by: Actor::default(),
        };
        params.check_values(&mut errors);
        if errors.is_empty() {
            Ok(params.given)
        } else {
            Err(refusal(errors))
        }
    }

    /// Values that are wrong in themselves.
    fn check_values(&self, errors: &mut Vec<FieldError>) {
        if let Some(other) = self.get(Parameter::DryRun).filter(|value| *value != "All") {
            errors.push(error("dryRun", other, "All, or no such parameter"));
        }
        if let Some(tags) = self.get(Parameter::IfMatch)
            && tags.trim() != "*"
            && tags.split(',').any(|tag| opaque(tag).is_none())
        {
            let expected = "the ETag of an answer, or metadata.resourceVersion in double quotes";
            errors.push(error("If-Match", tags, expected));
        }
        if let Some(limit) = self.get(Parameter::Limit)
            && !limit.parse::<usize>().is_ok_and(|limit| limit > 0)
        {
            errors.push(error("limit", limit, "a number of objects, at least 1"));
        }
        self.check_watch(errors);
        if let Some(key) = self.get(Parameter::IdempotencyKey)
            && !((1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()))
        {
            let expected = "1 to 255 visible ASCII characters, such as a UUID";
            errors.push(error("Idempotency-Key", key, expected));
        }
    }

    fn check_watch(&self, errors: &mut Vec<FieldError>) {
        if let Some(other) = self.get(Parameter::Watch)
            && !matches!(other, "true" | "false")
        {
            errors.push(error("watch", other, "true or false"));
        }
        for place in [Parameter::ResourceVersion, Parameter::LastEventId] {
            let Some(found) = self.get(place) else {
                continue;
            };
            if !self.is_watch() {
                errors.push(error(place.name(), found, "it only beside watch=true"));
            } else if found.parse::<u64>().is_err() {
                let expected = "metadata.resourceVersion of a list, or the id of an event";
                errors.push(error(place.name(), found, expected));
            }
        }
        for part in [Parameter::Limit, Parameter::Continue] {
            if let Some(found) = self.get(part).filter(|_| self.is_watch()) {
                let expected = "no such parameter in a watch, which has no parts";
                errors.push(error(part.name(), found, expected));
            }
        }
    }

    /// Whether changes are asked for, as they come.
    pub(super) fn is_watch(&self) -> bool {
        self.get(Parameter::Watch) == Some("true")
    }

    /// What the caller of a watch has seen; `None` for nothing. Who resumes by itself sends the address of its first
    /// request with the header of the last event, which is newer.
    pub(super) fn seen(&self) -> Option<Revision> {
        let last = self.get(Parameter::LastEventId);
        let seen = last.or_else(|| self.get(Parameter::ResourceVersion));
        seen.and_then(|seen| seen.parse().ok())
            .filter(|seen| *seen > 0)
            .map(Revision)
    }

    /// The part of a list of this kind that is asked for.
    pub(super) fn part(&self, kind: &str) -> Result<Part, Failure> {
        let token = self.get(Parameter::Continue);
        let limit = self.get(Parameter::Limit);
        let limit = limit.and_then(|limit| limit.parse().ok());
        Part::read(kind, limit, token).ok_or_else(|| {
            let expected = "metadata.continue of a list of the same kind, unchanged";
            refusal(vec![error("continue", token.unwrap_or_default(), expected)]).into()
        })
    }

    /// How a creation is meant. A key is the caller's own: two callers who choose the same are not mixed up.
    pub(super) fn creation(&self, caller: &Caller, kind: &str, body: &[u8]) -> Manner {
        let once = self.get(Parameter::IdempotencyKey).map(|key| Once {
            key: hash(&[caller.0.id.as_bytes(), key.as_bytes()]),
            request: hash(&[kind.as_bytes(), body]),
        });
        Manner {
            once,
            ..self.manner()
        }
    }

    /// A parameter as it was sent.
    pub(super) fn get(&self, parameter: Parameter) -> Option<&str> {
        self.given.get(parameter.name()).map(String::as_str)
    }

    /// The projects that the caller sees.
    pub(super) fn scope(&self) -> &Scope {
        &self.by.scope
    }

    /// How a write is meant.
    pub(super) fn manner(&self) -> Manner {
        let tags = self.get(Parameter::IfMatch).map(str::trim);
        Manner {
            by: self.by.clone(),
            dry_run: self.get(Parameter::DryRun).is_some(),
            only_at: tags
                .filter(|tags| *tags != "*")
                .map(|tags| tags.split(',').filter_map(revision).collect()),
            once: None,
        }
    }

    /// Refuses a deletion that was confirmed for another object. Where no data is lost none needs to be confirmed.
    pub(super) fn agrees(&self, name: &str) -> Result<(), Failure> {
        match self.get(Parameter::Confirm) {
            Some(other) if other != name => {
                Err(refusal(vec![error("confirm", other, &format!("{name:?}"))]).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller has what has this tag already. A weak comparison (RFC 9110, section 13.1.2).
    pub(super) fn has_already(&self, tag: &str) -> bool {
        self.get(Parameter::IfNoneMatch).is_some_and(|tags| {
            let mut tags = tags.split(',').map(str::trim);
            tags.any(|one| one == "*" || one.trim_start_matches("W/") == tag)
        })
    }
}

/// A digest of parts that are told apart.
fn hash(parts: &[&[u8]]) -> String {
    let lengths = parts.iter().map(|part| part.len().to_be_bytes());
    let told = lengths
        .zip(parts)
        .flat_map(|(length, part)| [&length[..], part].concat());
    let hash = digest(&SHA256, &told.collect::<Vec<_>>());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What stands in the quotes of a strong or a weak entity tag.
fn opaque(tag: &str) -> Option<&str> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"')?.strip_suffix('"')
}

/// The revision that a strong tag names: a tag is `"<revision>.<digest of the answer>"`. A write is bound to the revision,
/// which is that of what is wanted: the digest also changes with what is observed, which a write does not touch.
fn revision(tag: &str) -> Option<Revision> {
    if tag.trim().starts_with("W/") {
        return None;
    }
    let opaque = opaque(tag)?;
    let revision = opaque
        .split_once('.')
        .map_or(opaque, |(revision, _)| revision);
    revision.parse().ok().map(Revision)
}

fn unknown(name: &str, value: &str, taken: &[Parameter]) -> FieldError {
    let taken: Vec<_> = taken.iter().map(|one| one.name()).collect();
    let expected = if taken.is_empty() {
        "no parameter".to_owned()
    } else {
        format!("one of {}", taken.join(", "))
    };
    error(name, value, &expected)
}

fn error(field: &str, found: &str, expected: &str) -> FieldError {
    FieldError {
        field: field.to_owned(),
        found: format!("{found:?}"),
        expected: expected.to_owned(),
        remedy: "correct the request; nothing was done".to_owned(),
    }
}

fn refusal(errors: Vec<FieldError>) -> Fault {
    Fault::invalid("the request's parameters cannot be", errors)
}
