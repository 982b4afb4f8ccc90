//! What a request sends: a name in its path and its body. What is wrong with them is a problem as everything else.

use axum::RequestPartsExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use meridian_api::fault::Fault;
use serde::de::DeserializeOwned;

use super::BODY;
use super::answer::{self, Failure};

/// The name in the path.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let name = parts.extract::<Path<String>>().await;
        name.map(|Path(name)| Self(name)).map_err(|_| {
            // A name is a text: what is none names nothing.
            Failure::from(Fault::NotFound {
                kind: "path".to_owned(),
                name: parts.uri.path().to_owned(),
                hint: String::new(),
            })
        })
    }
}

/// The body.
#[derive(Debug)]
pub(super) struct Sent(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await;
        bytes.map(Self).map_err(|refused| {
            if refused.status() == 413 {
                let detail = format!("the body is too large: expected at most {BODY} bytes");
                return Fault::TooLarge { detail }.into();
            }
            Fault::invalid(
                &format!("the body could not be read: {refused}"),
                Vec::new(),
            )
            .into()
        })
    }
}

impl Sent {
    /// Reads JSON of what is expected.
    pub(super) fn read<T: DeserializeOwned>(&self, expected: &str) -> Result<T, Failure> {
        answer::body(&self.0, expected)
    }
}
