//! What members say of how far they have read one another, for those who wait for it.

use std::collections::BTreeSet;

use meridian_api::crds::active_active::{
    ActiveActiveStatus, RedisEnterpriseActiveActiveDatabaseStatus,
};

use super::App;
use super::observed::Observation;
use crate::domain::cluster::{Presence, PresenceEdge};
use crate::planner::Place;
use crate::planner::tail::{AllSeen, Seen};
use crate::store::records::{self, Held, LinkReport, StoredObservation};
use crate::store::{StoreError, keys};

/// The word of a link that is up.
const UP: &str = "up";
/// Who has lacked something for no longer than this, milliseconds, reads along: it lacks what is on its way, and nothing else.
const READS_ALONG_MS: u64 = 1_000;

fn of(observation: &Observation) -> Seen {
    let status: Option<RedisEnterpriseActiveActiveDatabaseStatus> =
        serde_json::from_value(observation.status.clone()).ok();
    let is_active = |it: RedisEnterpriseActiveActiveDatabaseStatus| {
        it.status == Some(ActiveActiveStatus::Active)
    };
    let caught_up = |link: &&LinkReport| {
        link.state == UP && link.lag_ms.is_some_and(|lag| lag <= READS_ALONG_MS)
    };
    let links = observation.links.iter().filter(caught_up);
    Seen {
        connected: true,
        active: status.is_some_and(is_active),
        caught_up: links.map(|link| link.instance_id).collect(),
    }
}

impl App {
    /// What these members have said of these databases, by the object id of each. What was not said to this process is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tails_seen(&self, places: BTreeSet<Place>) -> Result<AllSeen, StoreError> {
        let mut seen = AllSeen::new();
        for place in places {
            let (cluster, object) = place;
            let wanted = vec![
                keys::presence(cluster).text().to_owned(),
                keys::observed(cluster, object).text().to_owned(),
            ];
            let mut found = self.store().get_all(wanted).await?.value.into_iter();
            let presence: Option<Held<PresenceEdge>> = records::all(found.next().flatten())?.pop();
            let edge: Option<Held<StoredObservation>> = records::all(found.next().flatten())?.pop();
            let connected =
                presence.is_some_and(|held| held.record.presence == Presence::Connected);
            let said = edge.map(|edge| self.observations.latest(cluster, object, &edge.record));
            let said = said.filter(|said| connected && said.heard);
            let nothing = Seen {
                connected,
                ..Seen::default()
            };
            seen.insert(place, said.as_ref().map_or(nothing, of));
        }
        Ok(seen)
    }
}
