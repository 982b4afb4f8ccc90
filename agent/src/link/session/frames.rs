//! What a session does with each frame.

use meridian_api::link::{Position as StorePosition, clock::Skew, proto::SyncMode};

use super::{Heard, HubFrame, Instant, Open, Reply, Say, Taken, Why, codes, oneshot, proto};
use crate::link::{
    applier::{Batch, Command},
    order::Order,
};

impl Open<'_> {
    pub(super) async fn hear(
        &mut self,
        frame: Option<Result<HubFrame, tonic::Status>>,
    ) -> Result<(), Why> {
        let frame = match frame {
            None => return Err(Why::Closed),
            Some(Err(status)) => return Err(Why::Broken(status)),
            // A frame without a known content is of a later version.
            Some(Ok(HubFrame { frame: None })) => return Ok(()),
            Some(Ok(HubFrame { frame: Some(frame) })) => frame,
        };
        let context = self.lines.context;
        match frame {
            Heard::Welcome(_) => self.lines.broken("a second Welcome").await,
            Heard::Apply(apply) => self.take(apply).await,
            Heard::Confirm(confirm) => {
                // A refusal or an approval of a wish concerns those who wished; everything else the journal.
                let answers_wish = !confirm.intent_id.is_empty()
                    && confirm.action() != proto::ConfirmAction::Adopt;
                if answers_wish && context.answers.try_send(confirm.clone()).is_err() {
                    tracing::warn!(
                        intent = confirm.intent_id,
                        "an answer to a local wish was not taken; the wish is repeated"
                    );
                }
                self.waiting = (!answers_wish).then_some(Command::Confirm(confirm));
                Ok(())
            }
            Heard::DigestAsk(ask) => {
                self.waiting = Some(Command::Digest(ask.buckets));
                Ok(())
            }
            Heard::Freeze(freeze) => {
                self.waiting = Some(Command::Freeze(freeze));
                Ok(())
            }
            Heard::Beat(beat) => {
                let now = Instant::now();
                (self.echo, self.echo_at) = (beat.mono_ms, now);
                context.outbox.outcomes_durable(beat.outcomes_durable_upto);
                let skew = Skew::of(&beat, (context.wall_ms)(), mono_ms(now));
                if let Some(skew) = skew.filter(|skew| skew.is_large()) {
                    tracing::warn!(
                        hub_ahead_ms = skew.ahead_ms,
                        "the clocks of hub and agent differ; set both by NTP"
                    );
                }
                Ok(())
            }
            Heard::Trust(bundle) => {
                // Who is not obeyed says nothing about whom to believe.
                if context.observing.borrow().is_some() {
                    tracing::warn!(
                        version = bundle.version,
                        "roots of a hub that is only observed were not taken"
                    );
                } else {
                    context.trust.send_replace(Some(bundle));
                }
                Ok(())
            }
            Heard::Drain(drain) => Err(Why::Drained(drain)),
            Heard::Bye(bye) => Err(Why::Bye {
                code: bye.code,
                message: bye.message,
            }),
        }
    }

    async fn take(&mut self, apply: proto::Apply) -> Result<(), Why> {
        let upto = match StorePosition::required("Apply.upto", apply.upto.as_ref()) {
            Ok(upto) => upto.into(),
            Err(error) => {
                return self
                    .lines
                    .broken(&format!("Apply {}: {error}", apply.seq))
                    .await;
            }
        };
        let mut batch = Batch {
            upto,
            orders: Vec::new(),
            refused: Vec::new(),
        };
        for item in &apply.items {
            match Order::read(item, batch.upto.term, &self.lines.context.namespace) {
                Ok(order) => batch.orders.push(order),
                Err(refusal) => batch.refused.push(proto::Outcome {
                    object_id: item.object_id.clone(),
                    revision: item.revision,
                    result: proto::OutcomeResult::Nack.into(),
                    code: refusal.code.to_owned(),
                    message: refusal.message,
                    retry_after_ms: 0,
                    trace_id: item.trace_id.clone(),
                }),
            }
        }
        let (reply, answer): (_, Reply) = oneshot::channel();
        self.waiting = Some(Command::Accept { batch, reply });
        self.acks.push_back((apply.seq, answer));
        Ok(())
    }

    pub(super) async fn acknowledge(&mut self, seq: u64, taken: Option<Taken>) -> Result<(), Why> {
        match taken {
            Some(Taken::Durable(revision)) => {
                self.lines
                    .say(Say::Ack(proto::Ack {
                        seq,
                        durable_upto_revision: revision.0,
                    }))
                    .await
            }
            Some(Taken::Observing) => {
                tracing::warn!(
                    seq,
                    "an Apply was not taken: the agent only observes this hub"
                );
                Ok(())
            }
            Some(Taken::Not(reason)) => {
                let bye = proto::Bye {
                    code: codes::PROTOCOL_ERROR.to_owned(),
                    message: format!("Apply {seq} was not taken: {reason}"),
                };
                let _unheard = self.lines.say(Say::Bye(bye)).await;
                Err(Why::Local(format!("Apply {seq} was not taken: {reason}")))
            }
            None => Err(Why::Local("the applier has stopped".to_owned())),
        }
    }

    pub(super) async fn say_beat(&self) -> Result<(), Why> {
        let beat = proto::Beat {
            applied_upto_revision: *self.lines.context.applied.borrow(),
            outcomes_durable_upto: 0,
            mono_ms: mono_ms(Instant::now()),
            wall_ms: (self.lines.context.wall_ms)(),
            echo_mono_ms: self.echo,
            echo_held_ms: i64::try_from(self.echo_at.elapsed().as_millis()).unwrap_or(i64::MAX),
        };
        self.lines.say(Say::Beat(beat)).await
    }
}

/// Why only observing is allowed, if the hub says so or says something that we do not know.
pub(super) fn observe_reason(welcome: &proto::Welcome) -> Option<String> {
    match SyncMode::try_from(welcome.mode) {
        Ok(SyncMode::Resume | SyncMode::Buckets | SyncMode::Full) => None,
        Ok(SyncMode::Observe) if welcome.reason.is_empty() => {
            Some("the hub says OBSERVE".to_owned())
        }
        Ok(SyncMode::Observe) => Some(welcome.reason.clone()),
        Ok(SyncMode::Unspecified) | Err(_) => {
            Some(format!("the hub chose the unknown mode {}", welcome.mode))
        }
    }
}

/// The monotonic clock in milliseconds since this process first asked.
pub(super) fn mono_ms(now: Instant) -> i64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(|| now);
    // From 1 on: 0 stands for "no echo yet".
    i64::try_from(now.saturating_duration_since(start).as_millis())
        .unwrap_or(i64::MAX)
        .saturating_add(1)
}
