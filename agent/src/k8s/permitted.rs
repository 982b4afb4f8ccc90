//! Watches one object, also one that the agent may have no right to read. The library writes a warning for every watch that is
//! refused, so one is begun only after a plain request was answered; until then the refusal is passed on, and the caller says
//! once what follows from it.

use std::{fmt::Debug, pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;

use super::retry;

/// Pause after a refusal: how soon a right that was given is noticed. It grows, because a right that was not given with the
/// rest may never be.
const AGAIN: Duration = Duration::from_secs(5);
const DOUBLINGS: u32 = 3;

/// The object, `None` while it does not exist; or why it cannot be read.
pub type Seen<K> = Result<Option<K>, String>;

type Watch<K> = Pin<Box<dyn Stream<Item = Result<Option<K>, watcher::Error>> + Send>>;

/// What is being done.
enum State<K> {
    /// Nothing was asked yet.
    New,
    /// It was refused so many times in a row, but for one.
    Refused(u32),
    /// It may be read, and something was seen of it or not.
    Watching(Watch<K>, bool),
}

/// Follows the object `name` for ever; an item for every change, and for every refusal. Other trouble is told only as long as
/// nothing was seen.
pub fn object<K>(api: Api<K>, name: &str) -> impl Stream<Item = Seen<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let name = name.to_owned();
    stream::unfold(State::New, move |state| {
        next(api.clone(), name.clone(), state)
    })
}

async fn next<K>(api: Api<K>, name: String, mut state: State<K>) -> Option<(Seen<K>, State<K>)>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    loop {
        match state {
            State::Watching(mut watch, was_seen) => match watch.next().await {
                Some(Err(error)) if is_refused(&error) => {
                    return Some((Err(error.to_string()), State::Refused(0)));
                }
                // The watch goes on from where it was, and an object that has not changed since is not shown again: to say
                // that it cannot be read would stand until it changes.
                Some(Err(error)) if was_seen => {
                    tracing::debug!(%error, name, "a watch was interrupted; what it has shown holds");
                    state = State::Watching(watch, was_seen);
                }
                Some(Err(error)) => {
                    return Some((Err(error.to_string()), State::Watching(watch, false)));
                }
                Some(Ok(object)) => return Some((Ok(object), State::Watching(watch, true))),
                None => state = State::New,
            },
            State::New | State::Refused(_) => {
                let mut times = 0;
                if let State::Refused(before) = state {
                    tokio::time::sleep(AGAIN * 2_u32.pow(before)).await;
                    times = DOUBLINGS.min(before + 1);
                }
                if let Err(kube::Error::Api(status)) = api.get_metadata_opt(&name).await
                    && status.code == 403
                {
                    return Some((Err(status.message.clone()), State::Refused(times)));
                }
                // Whatever else fails, the watch tries again by itself.
                let watch = watcher::watch_object(api.clone(), &name).backoff(retry::alone());
                state = State::Watching(Box::pin(watch), false);
            }
        }
    }
}

fn is_refused(error: &watcher::Error) -> bool {
    let refused =
        |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => refused(error),
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::NoResourceVersion => false,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::testing::{answer, objects};

    fn refused() -> (u16, Value) {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                          "message": "forbidden", "reason": "Forbidden", "code": 403});
        (403, body)
    }

    fn list() -> (u16, Value) {
        let item = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "resourceVersion": "3"}});
        let body = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": [item]});
        (200, body)
    }

    fn metadata() -> (u16, Value) {
        let meta = json!({"name": "c", "resourceVersion": "3"});
        (
            200,
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta}),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_watched_before_it_may_be_read() {
        let (objects, server) = objects();
        // Refused twice, allowed, taken away again between the question and the watch, and allowed for good.
        let answers = vec![
            refused(),
            refused(),
            metadata(),
            refused(),
            metadata(),
            list(),
        ];
        let asked = tokio::spawn(answer(server, answers));
        let mut seen = pin!(object::<ConfigMap>(objects.api(), "c"));
        for refusal in ["forbidden", "forbidden", "forbidden"] {
            let error = seen.next().await.unwrap().unwrap_err();
            assert!(error.contains(refusal), "{error}");
        }
        let found = seen.next().await.unwrap().unwrap().unwrap();
        assert_eq!(found.metadata.name.as_deref(), Some("c"));
        // The watch goes on, and its next question has no answer here.
        asked.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_holds_while_the_api_server_is_away() {
        let (objects, server) = objects();
        let away = || {
            (
                500,
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500}),
            )
        };
        let changed = json!({"type": "MODIFIED", "object": {"apiVersion": "v1", "kind": "ConfigMap",
                             "metadata": {"name": "c", "resourceVersion": "9"}}});
        // Away before anything was listed, and twice when the watch is begun again.
        let answers = vec![metadata(), away(), list(), away(), away(), (200, changed)];
        let asked = tokio::spawn(answer(server, answers));
        let mut seen = pin!(object::<ConfigMap>(objects.api(), "c"));
        assert!(seen.next().await.unwrap().is_err(), "nothing is known yet");
        for revision in ["3", "9"] {
            let found = seen.next().await.unwrap();
            let found = found.unwrap_or_else(|error| panic!("{revision}: {error}"));
            assert_eq!(
                found.unwrap().metadata.resource_version.as_deref(),
                Some(revision)
            );
        }
        asked.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_never_given_is_asked_for_less_and_less() {
        let (objects, server) = objects();
        let asked = tokio::spawn(answer(server, vec![refused(); 7]));
        let mut seen = pin!(object::<ConfigMap>(objects.api(), "c"));
        let mut last = tokio::time::Instant::now();
        for pause in [0, 5, 10, 20, 40, 40] {
            assert!(seen.next().await.unwrap().is_err());
            assert_eq!(last.elapsed().as_secs(), pause);
            last = tokio::time::Instant::now();
        }
        asked.abort();
    }
}
