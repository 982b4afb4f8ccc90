//! Changing a database: what may become of its intent. The planner makes it so on every participant.

use meridian_api::crds::active_active::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseActiveActiveDatabaseSpec,
};
use meridian_api::validate::{self, FieldError};
use meridian_api::web::PROJECT_LABEL;

use super::{App, AppError, Deed, KIND, NewDatabase, check_rules, until_uncontended};
use crate::app::writes::Manner;
use crate::domain::access::grant::{self, Verb};
use crate::domain::database::{self, Database};
use crate::store::records::{Held, TxnExt as _};
use crate::store::{StoreError, Txn, keys};

impl App {
    /// Changes the intent of a database into what `change` makes of it, which is asked again where another writer came
    /// between. What is as it was is not written: it keeps its revision.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Changed`], [`AppError::Invalid`] for what cannot be or cannot become,
    /// [`AppError::Conflict`] if it is being deleted, [`AppError::Observing`], and those of `change`.
    pub async fn change_database(
        &self,
        name: &str,
        manner: &Manner,
        change: impl Fn(&Held<Database>) -> Result<NewDatabase, AppError>,
    ) -> Result<Held<Database>, AppError> {
        until_uncontended(|| async {
            self.must_decide().await?;
            let held = self.database(name).await?;
            let act = (name, held.record.project());
            manner.by.must(Verb::Update, grant::Kind::Database, act)?;
            manner.meets(KIND, name, held.modified)?;
            if held.record.deletion.is_some() {
                return Err(AppError::Conflict(format!(
                    "{KIND} {name:?} is being deleted and cannot be changed any more"
                )));
            }
            let new = change(&held)?;
            let database = self.changed(&held.record, &new).await?;
            if database == held.record {
                return Ok(held);
            }
            let txn = Txn::new().replace(&keys::database(name), &held, &database)?;
            let deed = Deed {
                project: held.record.project(),
                ..Deed::new(Verb::Update, KIND, name)
            };
            let modified = self.commit_as(manner, &deed, txn).await?;
            if modified.is_some() {
                tracing::info!(
                    database = name,
                    generation = database.generation,
                    "a database was changed"
                );
            }
            Ok(Held {
                record: database,
                modified: modified.unwrap_or(held.modified),
                ..held
            })
        })
        .await
    }

    async fn changed(&self, old: &Database, new: &NewDatabase) -> Result<Database, AppError> {
        check_rules(new, CHANGE)?;
        check_change(old, new)?;
        self.check_participants(&new.spec).await?;
        let spec = serde_json::to_value(&new.spec)
            .map_err(|e| AppError::Conflict(format!("the spec has no JSON form: {e}")))?;
        Ok(Database {
            generation: old.generation + i64::from(spec != old.spec),
            spec,
            labels: new.labels.clone(),
            ..old.clone()
        })
    }
}

/// What is refused, as errors say it.
const CHANGE: &str = "the Active-Active database cannot be changed so";

/// What may not become of a database.
fn check_change(old: &Database, new: &NewDatabase) -> Result<(), AppError> {
    let spec: RedisEnterpriseActiveActiveDatabaseSpec = serde_json::from_value(old.spec.clone())
        .map_err(|e| StoreError::Record {
            key: keys::database(&old.name).text().to_owned(),
            reason: format!("its spec cannot be read: {e}"),
        })?;
    let before = RedisEnterpriseActiveActiveDatabase::new(&old.name, spec);
    let after = RedisEnterpriseActiveActiveDatabase::new(&old.name, new.spec.clone());
    let mut fields = validate::active_active_database_update(&before, &after);
    let removed = validate::removed_participants(&before, &after);
    if !removed.is_empty() {
        fields.push(FieldError {
            field: "spec.participatingClusters".to_owned(),
            found: format!("a list without {}", removed.join(", ")),
            expected: "all participants that take part already".to_owned(),
            remedy: "a participant cannot be removed yet: keep it in the list, or make another database over those that \
                     are to stay, move the data there and delete this one"
                .to_owned(),
        });
    }
    let (found, expected) = (database::project(&new.labels), old.project());
    if found != expected {
        fields.push(FieldError {
            field: format!("metadata.labels[{PROJECT_LABEL}]"),
            found: format!("{found:?}"),
            expected: format!("{expected:?} as before"),
            remedy: "the project is fixed at creation; put it back".to_owned(),
        });
    }
    if fields.is_empty() {
        return Ok(());
    }
    Err(AppError::Invalid {
        summary: CHANGE.to_owned(),
        fields,
    })
}
