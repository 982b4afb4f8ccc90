//! Watches of etcd as batches of the store.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::watch as channel;
use tokio::time::{Interval, interval};
use tonic::{Code, Status, Streaming};

use super::client::Client;
use super::proto::{Event, RangeRequest, WatchCreateRequest, WatchResponse, event};
use super::{after as end_of, relative, revision, signed};
use crate::store::{Batch, Change, Revision, StoreError, Watch, following};

/// Between two questions whether all of the past has been told.
const ASK: Duration = Duration::from_millis(100);

/// What etcd tells who follows it.
#[derive(Debug)]
pub(super) enum Told {
    /// A transaction.
    Batch(Batch),
    /// Everything up to here has been told.
    Complete(Revision),
}

/// Watches what lies below `data` and `prefix`, from the revision after `after` on, which is at most `head`.
pub(super) async fn open(
    client: &Client,
    data: String,
    prefix: &str,
    after: Revision,
    head: Revision,
) -> Result<Watch, StoreError> {
    let told = follow(client, data, prefix, after, head, None).await?;
    let batches = told.filter_map(|one| {
        std::future::ready(match one {
            Ok(Told::Batch(batch)) => Some(Ok(batch)),
            Ok(Told::Complete(_)) => None,
            Err(error) => Some(Err(error)),
        })
    });
    Ok(batches.boxed())
}

/// As [`open`], but only up to a revision: then the stream ends.
pub(super) async fn past(
    client: &Client,
    data: String,
    prefix: &str,
    (after, upto): (Revision, Revision),
    head: Revision,
) -> Result<Watch, StoreError> {
    let (ask, asks) = channel::channel(());
    let told = follow(client, data, prefix, after, head, Some(asks)).await?;
    let past = Past {
        told,
        ask,
        due: interval(ASK),
        upto,
    };
    if after >= upto {
        return Ok(stream::empty().boxed());
    }
    Ok(stream::unfold(Some(past), Past::advance).boxed())
}

/// What is read of the past. Only an answer to a question tells that nothing follows.
struct Past {
    told: BoxStream<'static, Result<Told, StoreError>>,
    ask: channel::Sender<()>,
    due: Interval,
    upto: Revision,
}

impl Past {
    async fn advance(past: Option<Self>) -> Option<(Result<Batch, StoreError>, Option<Self>)> {
        let mut past = past?;
        loop {
            tokio::select! {
                told = past.told.next() => match told? {
                    Ok(Told::Batch(batch)) if batch.revision <= past.upto => {
                        return Some((Ok(batch), Some(past)));
                    }
                    Ok(Told::Complete(upto)) if upto < past.upto => {}
                    Ok(Told::Batch(_) | Told::Complete(_)) => return None,
                    Err(error) => return Some((Err(error), None)),
                },
                _ = past.due.tick() => {
                    past.ask.send_replace(());
                }
            }
        }
    }
}

/// As [`open`]. Each change of `asks` asks how far everything has been told.
pub(super) async fn follow(
    client: &Client,
    data: String,
    prefix: &str,
    after: Revision,
    head: Revision,
    asks: Option<channel::Receiver<()>>,
) -> Result<BoxStream<'static, Result<Told, StoreError>>, StoreError> {
    let key = format!("{data}{prefix}").into_bytes();
    let from = following(after);
    let create = WatchCreateRequest {
        range_end: end_of(&key).into(),
        key: key.clone().into(),
        start_revision: signed(from),
    };
    let stream = client.watch(create, asks).await.map_err(failed)?;
    let cursor = Cursor {
        stream,
        data,
        after,
        ready: VecDeque::new(),
        over: false,
    };
    // etcd says only on the stream that the history is gone, and nothing there tells that from silence: a read at that
    // revision does.
    if after < head {
        if is_compacted(client, key.clone(), from).await? {
            return Err(cursor.compacted().await);
        }
        // Of its own revision a compaction keeps what stands, and what was deleted there is told to nobody.
        if after > Revision(0) && is_compacted(client, key, after).await? {
            return Err(StoreError::Compacted {
                asked: after,
                oldest: from,
            });
        }
    }
    Ok(stream::unfold(cursor, Cursor::advance).boxed())
}

async fn is_compacted(client: &Client, key: Vec<u8>, at: Revision) -> Result<bool, StoreError> {
    let request = RangeRequest {
        key: key.into(),
        revision: signed(at),
        ..RangeRequest::default()
    };
    match client.range(request).await {
        Ok(_) => Ok(false),
        Err(status) if status.code() == Code::OutOfRange => Ok(true),
        Err(status) => Err(failed(status)),
    }
}

struct Cursor {
    stream: Streaming<WatchResponse>,
    data: String,
    after: Revision,
    ready: VecDeque<Told>,
    over: bool,
}

impl Cursor {
    async fn advance(mut self) -> Option<(Result<Told, StoreError>, Self)> {
        while !self.over {
            if let Some(told) = self.ready.pop_front() {
                if let Told::Batch(batch) = &told {
                    self.after = batch.revision;
                }
                return Some((Ok(told), self));
            }
            if let Err(error) = self.read().await {
                self.over = true;
                return Some((Err(error), self));
            }
        }
        None
    }

    /// Why etcd ended a watch whose history is gone.
    async fn compacted(mut self) -> StoreError {
        loop {
            if let Err(error) = self.read().await {
                return error;
            }
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let Some(response) = self.stream.message().await.map_err(failed)? else {
            return Err(failed(Status::unavailable("etcd ended the watch")));
        };
        if response.compact_revision > 0 {
            return Err(StoreError::Compacted {
                asked: self.after,
                oldest: revision(response.compact_revision),
            });
        }
        if response.canceled {
            let reason = format!("etcd cancelled the watch: {}", response.cancel_reason);
            return Err(failed(Status::unavailable(reason)));
        }
        if response.events.is_empty() && !response.created {
            let upto = revision(response.header.unwrap_or_default().revision);
            self.ready.push_back(Told::Complete(upto));
        }
        let batches = batches(&self.data, response.events)?;
        self.ready.extend(batches.into_iter().map(Told::Batch));
        Ok(())
    }
}

/// etcd tells the changes of one transaction together and in the order in which they were written.
fn batches(data: &str, events: Vec<Event>) -> Result<Vec<Batch>, StoreError> {
    let mut batches: Vec<Batch> = Vec::new();
    for event in events {
        let deleted = event.r#type() == event::EventType::Delete;
        let found = event.kv.unwrap_or_default();
        let change = Change {
            key: relative(data, &found.key)?,
            value: (!deleted).then_some(found.value),
        };
        let at = revision(found.mod_revision);
        match batches.last_mut() {
            Some(batch) if batch.revision == at => batch.changes.push(change),
            _ => batches.push(Batch {
                revision: at,
                changes: vec![change],
            }),
        }
    }
    for batch in &mut batches {
        batch.changes.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Ok(batches)
}

fn failed(status: Status) -> StoreError {
    StoreError::unavailable("watch etcd", status)
}

#[cfg(test)]
mod tests {
    use super::super::proto::KeyValue;
    use super::*;

    fn event(key: &str, at: i64, value: Option<&str>) -> Event {
        let kind = if value.is_some() {
            event::EventType::Put
        } else {
            event::EventType::Delete
        };
        Event {
            r#type: kind.into(),
            kv: Some(KeyValue {
                key: format!("/m/hub{key}").into_bytes().into(),
                mod_revision: at,
                value: value.unwrap_or_default().to_owned().into_bytes().into(),
                ..KeyValue::default()
            }),
        }
    }

    #[test]
    fn the_changes_of_one_transaction_are_one_batch_in_key_order() {
        let events = vec![
            event("/b", 4, Some("1")),
            event("/a", 4, None),
            event("/a", 6, Some("2")),
        ];
        let found: Vec<_> = batches("/m/hub", events)
            .unwrap()
            .into_iter()
            .map(|batch| {
                let changes = batch.changes.into_iter();
                let changes: Vec<_> = changes.map(|it| (it.key, it.value.is_some())).collect();
                (batch.revision.0, changes)
            })
            .collect();
        let told = |key: &str, stands| (key.to_owned(), stands);
        let expected = vec![
            (4, vec![told("/a", false), told("/b", true)]),
            (6, vec![told("/a", true)]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_key_outside_of_the_root_is_no_change_of_ours() {
        let mut stranger = event("/a", 4, Some("1"));
        stranger.kv.as_mut().unwrap().key = "/other/a".into();
        let refused = batches("/m/hub", vec![stranger]).unwrap_err();
        assert!(refused.to_string().contains("/other/a"), "{refused}");
    }
}
