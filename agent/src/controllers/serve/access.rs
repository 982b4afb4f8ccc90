//! Who may log in to a database besides its default user: `rolesPermissions` made into users.
//!
//! A *role* is carried by Secrets of the namespace with the label [`ROLE`] (the annotation of the same name says it where a label
//! cannot) and the keys `username` and `password`; each is one user of that role. An *acl* is one of the three known names, or a
//! key of the ConfigMap `<rec>-acls`. An entry that cannot be resolved is left out and told; the others hold.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use meridian_api::{
    access::{Entry, NO_DEFAULT_USER, Rules, User, Users, check_user_name},
    crds::database::RolePermission,
};

use super::{fetch::Credential, settings::Policy};
use crate::{
    controllers::{
        Context,
        secrets::{password_hash, value},
    },
    k8s::{
        apply::{ApplyError, Object, Objects},
        conditions::Finding,
        names::ClusterNames,
        own::ROLE,
    },
};

/// Everything that roles are made of.
#[derive(Debug, Clone, Default)]
struct Roles {
    /// Secrets with a role.
    secrets: Vec<Secret>,
    /// Access lists that people wrote.
    lists: Option<ConfigMap>,
}

/// Reads what the entries may name; nothing if there are none.
///
/// # Errors
/// The API server refused or could not be reached.
async fn roles(
    objects: &Objects,
    rec: &str,
    entries: &[RolePermission],
) -> Result<Roles, ApplyError> {
    if entries.is_empty() {
        return Ok(Roles::default());
    }
    Ok(Roles {
        secrets: objects.list(ROLE).await?,
        lists: objects.get(&ClusterNames(rec).acls()).await?,
    })
}

/// Who may log in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// As it is written for the nodes.
    pub entry: Entry,
    /// Entries of `rolesPermissions`.
    asked: usize,
    /// Users that they made.
    granted: usize,
    /// The cluster lets databases give no roles.
    ignored: bool,
    /// What is wrong with the others: object, field, found, expected, next step.
    pub problems: Vec<String>,
}

impl Access {
    /// The hash by which a node says that it has taken this over.
    #[must_use]
    pub(crate) fn hash(&self) -> String {
        password_hash(self.entry.text().as_bytes())
    }

    /// The condition; none where no role is asked for.
    #[must_use]
    pub(crate) fn finding(&self) -> Option<Finding> {
        if self.asked == 0 {
            return None;
        }
        Some(if self.problems.is_empty() {
            let text = format!("{} entries, {} users", self.asked, self.granted);
            Finding::yes(CONDITION, "Granted", text)
        } else {
            Finding::no(CONDITION, self.reason(), self.told())
        })
    }

    /// Reason of the condition and of the Event where something is wrong.
    fn reason(&self) -> &'static str {
        if self.ignored { IGNORED } else { INCOMPLETE }
    }

    /// What is wrong, in one text.
    #[must_use]
    fn told(&self) -> String {
        format!(
            "{}. The database goes on with the rest",
            self.problems.join("; ")
        )
    }
}

const CONDITION: &str = "RolesPermissions";
/// Some entries cannot be resolved.
const INCOMPLETE: &str = "RolesIncomplete";
/// The cluster lets databases give no roles.
const IGNORED: &str = "RolesPermissionsIgnored";

/// Reads and resolves; what is wrong becomes an Event about `database`.
///
/// # Errors
/// The API server refused or could not be reached.
pub(crate) async fn access<K: Object>(
    context: &Context,
    database: &K,
    rec: &str,
    credential: &Credential,
    entries: &[RolePermission],
    policy: &Policy,
) -> Result<Access, ApplyError> {
    let roles = roles(&context.objects, rec, entries).await?;
    let access = decide(credential, entries, rec, &roles, policy);
    if !access.problems.is_empty() {
        let about = database.object_ref(&());
        let events = &context.report.events;
        events
            .warning(&about, access.reason(), &access.told())
            .await;
    }
    Ok(access)
}

/// Makes the users of a database, as far as the cluster lets it give access. Pure.
#[must_use]
fn decide(
    credential: &Credential,
    entries: &[RolePermission],
    rec: &str,
    roles: &Roles,
    policy: &Policy,
) -> Access {
    if policy.gives_roles || entries.is_empty() {
        return resolve(credential, entries, rec, roles);
    }
    Access {
        asked: entries.len(),
        ignored: true,
        problems: vec![format!(
            "rolesPermissions: found {} entries, expected none while spec.accessControl.policy.allowREDBRolesPermissions of the \
             RedisEnterpriseCluster `{rec}` is false: no user has access by them; remove them, or have the cluster's owner allow \
             them",
            entries.len()
        )],
        ..resolve(credential, &[], rec, roles)
    }
}

/// Makes the users of a database. Pure.
#[must_use]
fn resolve(
    credential: &Credential,
    entries: &[RolePermission],
    rec: &str,
    roles: &Roles,
) -> Access {
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();
    for (
        n,
        RolePermission {
            acl,
            role,
            type_: _,
        },
    ) in entries.iter().enumerate()
    {
        let at = format!("rolesPermissions[{n}]");
        let rules = match rules(acl, rec, roles) {
            Ok(rules) => rules,
            Err(problem) => {
                problems.push(format!("{at}.acl: {problem}"));
                continue;
            }
        };
        let members: Vec<&Secret> = roles
            .secrets
            .iter()
            .filter(|s| role_of(s) == Some(role))
            .collect();
        if members.is_empty() {
            problems.push(format!(
                "{at}.role: found `{role}`, expected the role of a Secret with the label `{ROLE}`: label one that has the keys \
                 `username` and `password`"
            ));
        }
        for secret in members {
            let taken = member(secret).and_then(|user| one_role(&mut holders, user, role, secret));
            match taken {
                Ok((name, hash)) => add(&mut users, name, hash, &rules),
                Err(problem) => problems.push(format!("{at}.role `{role}`: {problem}")),
            }
        }
    }
    let login = credential
        .password()
        .map_or_else(|| NO_DEFAULT_USER.to_owned(), password_hash);
    let granted = users.len();
    let users = Users(users.into_values().collect());
    Access {
        entry: Entry {
            login,
            users: if granted == 0 {
                String::new()
            } else {
                users.to_string()
            },
            certificates: String::new(),
        },
        asked: entries.len(),
        granted,
        ignored: false,
        problems,
    }
}

/// Refuses a user that has another role already.
fn one_role(
    holders: &mut BTreeMap<String, String>,
    (name, hash): (String, String),
    role: &str,
    secret: &Secret,
) -> Result<(String, String), String> {
    let holder = holders
        .entry(name.clone())
        .or_insert_with(|| role.to_owned());
    if holder != role {
        return Err(format!(
            "the user `{name}` of the Secret `{}` has the role `{holder}` by an earlier entry, expected one role: give one of \
             them another `username`",
            secret.name_any()
        ));
    }
    Ok((name, hash))
}

/// A role whose entries repeat keeps the first one's rules; Secrets of one user are its passwords.
fn add(users: &mut BTreeMap<String, User>, name: String, hash: String, rules: &Rules) {
    let user = users.entry(name.clone()).or_insert_with(|| User {
        name,
        passwords: Vec::new(),
        rules: rules.as_str().to_owned(),
    });
    if !user.passwords.contains(&hash) {
        user.passwords.push(hash);
        user.passwords.sort();
    }
}

fn role_of(secret: &Secret) -> Option<&String> {
    let meta = &secret.metadata;
    meta.labels.as_ref()?.get(ROLE)?;
    let named = meta.annotations.as_ref().and_then(|all| all.get(ROLE));
    named.or_else(|| meta.labels.as_ref()?.get(ROLE))
}

/// Name and hash of the user that a Secret carries.
fn member(secret: &Secret) -> Result<(String, String), String> {
    let name = secret.name_any();
    let text = |key| {
        value(secret, key).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
            format!("the Secret `{name}` has nothing under the key `{key}`, expected the user's: add it")
        })
    };
    let user = String::from_utf8_lossy(text("username")?).into_owned();
    check_user_name(&user)
        .map_err(|error| format!("the Secret `{name}`, key `username`: {error}"))?;
    Ok((user, password_hash(text("password")?)))
}

fn rules(acl: &str, rec: &str, roles: &Roles) -> Result<Rules, String> {
    if let Some(rules) = Rules::built_in(acl) {
        return Ok(rules);
    }
    let map = ClusterNames(rec).acls();
    let written = roles
        .lists
        .as_ref()
        .and_then(|lists| lists.data.as_ref()?.get(acl));
    let Some(text) = written else {
        let known: Vec<_> = Rules::built_in_names().collect();
        return Err(format!(
            "found `{acl}`, expected {}, or a key of the ConfigMap `{map}`: add the key, whose value is the rules",
            known.join(", ")
        ));
    };
    Rules::parse(text).map_err(|error| format!("ConfigMap `{map}`, key `{acl}`: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(name: &str, role: &str, user: &str, password: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {ROLE: role}},
               "data": {"username": k8s_openapi::ByteString(user.into()), "password": k8s_openapi::ByteString(password.into())}})
    }

    fn given(secrets: &[Value], lists: &Value) -> Roles {
        Roles {
            secrets: serde_json::from_value(json!(secrets)).unwrap(),
            lists: Some(serde_json::from_value(json!({"data": lists})).unwrap()),
        }
    }

    fn resolved(entries: &Value, roles: &Roles) -> (Vec<User>, Vec<String>) {
        let entries: Vec<RolePermission> = serde_json::from_value(entries.clone()).unwrap();
        let access = resolve(&Credential::NoUser, &entries, "rec", roles);
        assert_eq!(access.entry.login, NO_DEFAULT_USER);
        let users = if access.entry.users.is_empty() {
            Vec::new()
        } else {
            Users::read(&access.entry.users).unwrap().0
        };
        (users, access.problems)
    }

    #[test]
    fn every_user_of_a_role_has_the_rules_of_its_entry_and_all_its_passwords() {
        let mut by_annotation = secret("s4", "x", "dba", "p");
        by_annotation["metadata"]["annotations"] = json!({ROLE: "DB Admin"});
        let roles = given(
            &[
                secret("s1", "app", "shop", "one"),
                secret("s2", "app", "shop", "two"),
                secret("s3", "app", "cart", "p"),
                by_annotation,
                secret("s5", "other", "stranger", "p"),
            ],
            &json!({"writers": "+@write ~cart:*"}),
        );
        let entries = json!([{"role": "app", "acl": "writers", "type": "redis-enterprise"},
                             {"role": "DB Admin", "acl": "Full Access", "type": "redis-enterprise"}]);
        let (users, problems) = resolved(&entries, &roles);
        assert_eq!(problems, Vec::<String>::new());
        let shown: Vec<_> = users
            .iter()
            .map(|u| (u.name.as_str(), u.passwords.len()))
            .collect();
        assert_eq!(shown, [("cart", 1), ("dba", 1), ("shop", 2)]);
        assert!(users[0].rules.contains("+@write ~cart:*"));
    }

    #[test]
    fn a_cluster_that_gives_no_roles_gives_those_of_no_database() {
        let roles = given(&[secret("s1", "app", "shop", "one")], &json!({}));
        let entries = json!([{"role": "app", "acl": "Full Access", "type": "redis-enterprise"}]);
        let entries: Vec<RolePermission> = serde_json::from_value(entries).unwrap();
        let decided = |allowed: &Value, entries: &[RolePermission]| {
            let rec = json!({"metadata": {"name": "rec"}, "spec": {"accessControl": {
                "policy": {"allowREDBRolesPermissions": allowed}}}});
            let policy = Policy::of(Some(&serde_json::from_value(rec).unwrap()));
            decide(&Credential::NoUser, entries, "rec", &roles, &policy)
        };
        for allowed in [Value::Null, json!(true)] {
            let access = decided(&allowed, &entries);
            assert!(access.entry.users.contains("shop"), "{access:?}");
            assert_eq!(access.finding().map(|told| told.reason), Some("Granted"));
        }
        let access = decided(&json!(false), &entries);
        assert_eq!(access.entry.users, "");
        assert_eq!(access.entry.login, NO_DEFAULT_USER);
        let told = access.finding().unwrap();
        assert_eq!(told.reason, "RolesPermissionsIgnored");
        assert!(
            told.message.contains("found 1 entries") && told.message.contains("`rec` is false"),
            "{}",
            told.message
        );
        assert_eq!(decided(&json!(false), &[]).finding(), None);
    }

    #[test]
    fn what_cannot_be_resolved_is_left_out_and_named_and_the_rest_holds() {
        let mut without = secret("s2", "half", "u", "");
        without["data"]["password"] = Value::Null;
        let roles = given(
            &[
                secret("s1", "app", "shop", "one"),
                without,
                secret("s3", "bad", "meridian-internal", "p"),
                secret("s4", "twice", "shop", "p"),
            ],
            &json!({"opens": "+@read nopass", "admin": "+config ~*"}),
        );
        let entry =
            |role: &str, acl: &str| json!({"role": role, "acl": acl, "type": "redis-enterprise"});
        let entries = json!([
            entry("app", "Read-Only"),
            entry("app", "unknown"),
            entry("app", "opens"),
            entry("app", "admin"),
            entry("nobody", "Read-Only"),
            entry("half", "Read-Only"),
            entry("bad", "Read-Only"),
            entry("twice", "Full Access"),
        ]);
        let (users, problems) = resolved(&entries, &roles);
        assert_eq!(users.len(), 1, "{users:?}");
        assert!(users[0].rules.contains("+@read"));
        let expected = [
            ["rolesPermissions[1].acl", "`unknown`", "rec-acls"],
            ["rolesPermissions[2].acl", "`opens`", "`nopass`"],
            ["rolesPermissions[3].acl", "`admin`", "administrative"],
            ["rolesPermissions[4].role", "`nobody`", "label"],
            ["rolesPermissions[5].role", "`s2`", "`password`"],
            ["rolesPermissions[6].role", "`s3`", "meridian-"],
            ["rolesPermissions[7].role", "`s4`", "`app`"],
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, words) in problems.iter().zip(expected) {
            assert!(
                words.iter().all(|word| problem.contains(word)),
                "{words:?}: {problem}"
            );
        }
    }

    #[test]
    fn an_empty_password_is_no_user_of_a_role() {
        let roles = given(&[secret("s", "app", "u", "")], &json!({}));
        let entries = json!([{"role": "app", "acl": "Full Access", "type": "redis-enterprise"}]);
        let (users, problems) = resolved(&entries, &roles);
        assert!(
            users.is_empty() && problems[0].contains("`password`"),
            "{problems:?}"
        );
    }
}
