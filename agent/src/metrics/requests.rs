//! Counts requests to the API server by verb and resource, around the Kubernetes client.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Label, Metrics, Request, Timed};

/// Resources that are counted by name; everything else is `other`.
const RESOURCES: &[&str] = &[
    "activeactiveinstances",
    "configmaps",
    "customresourcedefinitions",
    "databasetopologies",
    "deployments",
    "endpointslices",
    "events",
    "ingresses",
    "leases",
    "namespaces",
    "networkpolicies",
    "nodes",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "pods",
    "redisenterpriseactiveactivedatabases",
    "redisenterpriseclusters",
    "redisenterprisedatabases",
    "redisenterpriseremoteclusters",
    "rolebindings",
    "roles",
    "secrets",
    "serviceaccounts",
    "services",
    "statefulsets",
    "storageclasses",
    "validatingwebhookconfigurations",
];

/// A layer of the client that counts.
#[derive(Debug, Clone)]
pub struct CountRequests(pub Arc<Metrics>);

impl<S> Layer<S> for CountRequests {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting {
            inner,
            metrics: Arc::clone(&self.0),
        }
    }
}

/// A client's transport that counts.
#[derive(Debug, Clone)]
pub struct Counting<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> Service<http::Request<B>> for Counting<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let uri = request.uri();
        let (verb, resource) = classify(request.method(), uri.path(), uri.query());
        let (metrics, started) = (Arc::clone(&self.metrics), Instant::now());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let result = answer
                .as_ref()
                .map_or("error", |answer| result(answer.status()));
            metrics.requested(verb, resource, result, started.elapsed());
            answer
        })
    }
}

impl Metrics {
    pub(super) fn requested(&self, verb: Label, resource: Label, result: Label, took: Duration) {
        let request = Request {
            verb,
            resource,
            result,
        };
        self.requests.get_or_create(&request).inc();
        let seconds = self
            .request_seconds
            .get_or_create(&Timed { verb, resource });
        seconds.observe(took.as_secs_f64());
    }
}

fn result(status: StatusCode) -> Label {
    match status.as_u16() {
        404 => "404",
        409 => "409",
        429 => "429",
        200..=299 => "2xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

/// Verb and resource of a request, as the API server's own metrics name them.
fn classify(method: &Method, path: &str, query: Option<&str>) -> (Label, Label) {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let rest: Vec<&str> = match parts.next() {
        Some("api") => parts.skip(1).collect(),
        Some("apis") => parts.skip(2).collect(),
        Some(_) | None => Vec::new(),
    };
    let rest = match rest.as_slice() {
        ["namespaces", _, resource, more @ ..] if *resource != "status" => (*resource, more),
        [resource, more @ ..] => (*resource, more),
        [] => ("", &[] as &[&str]),
    };
    let (resource, named) = (rest.0, !rest.1.is_empty());
    let resource = RESOURCES.iter().find(|known| **known == resource);
    let watches = query.is_some_and(|query| {
        let mut pairs = query.split('&');
        pairs.any(|pair| pair == "watch=true" || pair == "watch=1")
    });
    let verb = match method.as_str() {
        "GET" if watches => "watch",
        "GET" if named => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    };
    (verb, resource.copied().unwrap_or("other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_the_api_server_names_them() {
        let cases = [
            (
                "GET",
                "/api/v1/namespaces/ns/secrets/x",
                "",
                ("get", "secrets"),
            ),
            (
                "GET",
                "/api/v1/namespaces/ns/secrets",
                "limit=5",
                ("list", "secrets"),
            ),
            (
                "GET",
                "/api/v1/namespaces/ns/pods",
                "watch=true&x=1",
                ("watch", "pods"),
            ),
            (
                "GET",
                "/api/v1/namespaces/kube-system",
                "",
                ("get", "namespaces"),
            ),
            ("GET", "/api/v1/namespaces", "", ("list", "namespaces")),
            (
                "PATCH",
                "/apis/app.redislabs.com/v1/namespaces/ns/redisenterpriseclusters/rec/status",
                "fieldManager=x",
                ("patch", "redisenterpriseclusters"),
            ),
            (
                "POST",
                "/api/v1/namespaces/ns/pods/x/eviction",
                "",
                ("create", "pods"),
            ),
            ("GET", "/apis/unknown.io/v1/things", "", ("list", "other")),
            ("GET", "/apis/app.redislabs.com/v1", "", ("list", "other")),
            ("GET", "/version", "", ("list", "other")),
        ];
        for (method, path, query, wanted) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(classify(&method, path, Some(query)), wanted, "{path}");
        }
    }

    #[tokio::test]
    async fn every_answer_and_every_failure_is_counted() {
        let metrics = Arc::new(Metrics::default());
        let answer = tower::service_fn(async |request: http::Request<()>| {
            if request.uri().path().ends_with("gone") {
                return Err("no connection");
            }
            let answer = http::Response::builder().status(409);
            Ok(answer.body(()).unwrap())
        });
        let mut service = CountRequests(Arc::clone(&metrics)).layer(answer);
        for path in [
            "/api/v1/namespaces/ns/pods/a",
            "/api/v1/namespaces/ns/pods/gone",
        ] {
            let request = http::Request::get(path).body(()).unwrap();
            let _either = service.call(request).await;
        }
        let text = metrics.render().unwrap();
        for result in ["409", "error"] {
            let line = format!(
                "meridian_agent_api_requests_total{{verb=\"get\",resource=\"pods\",result=\"{result}\"}} 1"
            );
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
