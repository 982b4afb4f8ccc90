//! Whatever stands in an object, its validation comes to an end: random specs, made along the schemas, go through every
//! rule. Each case is two objects of each of the four kinds. `MERIDIAN_SPECS=1000000` makes a million of them.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers, too"
)]

use std::{cell::Cell, collections::BTreeMap, sync::LazyLock};

use meridian_api::version::{Bundle, Bundled};
use meridian_api::{
    crds::{
        RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
        RedisEnterpriseRemoteCluster, all_crds,
    },
    validate::{
        self, FieldError, Neighbour, Place, Surroundings, active_active_database_among_warnings,
    },
};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any},
    test_runner::TestRunner,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// Two of each of the four kinds.
const SPECS_OF_A_CASE: u32 = 8;

/// Bytes that decide what an object is like. Where they end, so does the object; so fewer bytes are a smaller object.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.next().is_some_and(|byte| byte % n == 0)
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::from(self.next().unwrap_or(0)) % from.len()]
    }
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "rec",
    "redb",
    "rerc1",
    "a.b",
    "-",
    ".",
    "A",
    "ä",
    "\u{0}",
    "\u{10ffff}",
    "100MB",
    "0.1GB",
    "1e9",
    "-1Gi",
    "1.5Gi",
    "99999999999999999999999999Gi",
    "0.00000000000000000000000000000001",
    "NaN",
    "Ki",
    "GB",
    "20Gi",
    ".db.example.com",
    "-db.example.com",
    "https://a/b?c#d",
    "volatile-lru",
    "illegal",
    "major",
    "7.2",
    "cluster_ip,headless,,",
    "redis-enterprise-rerc1",
    "a,b, c,,",
    "🦀🦀🦀",
    "managed_by",
];
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    63,
    64,
    255,
    443,
    512,
    513,
    6379,
    9999,
    10_000,
    19_999,
    20_000,
    65_535,
    65_536,
    86_400,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

fn text(choices: &mut Choices<'_>) -> String {
    if choices.one_in(16) {
        let length = choices.next().unwrap_or(0);
        return "x-".repeat(usize::from(length));
    }
    choices.pick(TEXTS).to_owned()
}

fn number(choices: &mut Choices<'_>) -> Value {
    json!(NUMBERS[usize::from(choices.next().unwrap_or(0)) % NUMBERS.len()])
}

/// A value along a schema, now and then of another type.
fn value(schema: &Value, choices: &mut Choices<'_>) -> Value {
    if choices.one_in(97) {
        return anything(choices);
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return if choices.one_in(2) {
            number(choices)
        } else {
            json!(text(choices))
        };
    }
    if let Some(words) = schema["enum"].as_array()
        && !choices.one_in(4)
    {
        return words[usize::from(choices.next().unwrap_or(0)) % words.len()].clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(choices.one_in(2)),
        Some("integer") => number(choices),
        Some("string") => json!(text(choices)),
        Some("array") => {
            let length = choices.next().unwrap_or(0) % 4;
            (0..length)
                .map(|_| value(&schema["items"], choices))
                .collect()
        }
        Some("object") if schema.get("properties").is_some() => fields(schema, choices),
        Some("object") if schema.get("additionalProperties").is_some() => {
            let length = choices.next().unwrap_or(0) % 3;
            let pair = |choices: &mut Choices<'_>| {
                (
                    text(choices),
                    value(&schema["additionalProperties"], choices),
                )
            };
            (0..length)
                .map(|_| pair(choices))
                .collect::<Map<_, _>>()
                .into()
        }
        Some(_) | None => anything(choices),
    }
}

fn fields(schema: &Value, choices: &mut Choices<'_>) -> Value {
    let required = schema["required"].as_array();
    let mut object = Map::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let needed = required.is_some_and(|required| required.contains(&json!(name)));
        if needed || choices.one_in(5) {
            object.insert(name.clone(), value(property, choices));
        }
    }
    object.into()
}

fn anything(choices: &mut Choices<'_>) -> Value {
    match choices.next().unwrap_or(0) % 6 {
        0 => Value::Null,
        1 => json!(choices.one_in(2)),
        2 => number(choices),
        3 => json!(text(choices)),
        4 => json!([anything(choices)]),
        _ => json!({ text(choices): anything(choices) }),
    }
}

fn spec_schemas() -> &'static BTreeMap<String, Value> {
    static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let stored = all_crds().unwrap().into_iter().map(|crd| {
            let kind = crd.spec.names.kind;
            let mut versions = crd.spec.versions.into_iter();
            let version = versions.find(|version| version.storage).unwrap();
            let schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema).unwrap();
            (kind, schema["properties"]["spec"].clone())
        });
        stored.collect()
    });
    &SCHEMAS
}

/// How many objects were made, and how many of them our types could read.
#[derive(Default)]
struct Counts {
    made: Cell<u64>,
    read: Cell<u64>,
    refused: Cell<u64>,
}

impl Counts {
    fn object<T: Serialize + DeserializeOwned>(
        &self,
        kind: &str,
        choices: &mut Choices<'_>,
    ) -> Option<T> {
        self.made.set(self.made.get() + 1);
        let version = if kind == "RedisEnterpriseCluster" {
            "v1"
        } else {
            "v1alpha1"
        };
        let object = json!({
            "apiVersion": format!("app.redislabs.com/{version}"),
            "kind": kind,
            "metadata": {
                "name": text(choices), "namespace": text(choices),
                "annotations": { validate::CONFIRM_REMOVAL: text(choices), validate::CONFIRM_DELETION: text(choices) },
            },
            "spec": fields(&spec_schemas()[kind], choices),
        });
        let (read, _) = validate::read_strictly(&object).ok()?;
        self.read.set(self.read.get() + 1);
        Some(read)
    }

    fn judged(&self, errors: &[FieldError]) {
        for error in errors {
            let told = [&error.field, &error.found, &error.expected, &error.remedy];
            assert!(told.iter().all(|part| !part.is_empty()), "{error:?}");
        }
        if !errors.is_empty() {
            self.refused.set(self.refused.get() + 1);
        }
    }
}

fn surroundings(choices: &mut Choices<'_>) -> Surroundings {
    let neighbours = (0..choices.next().unwrap_or(0) % 3).map(|_| Neighbour {
        place: Place {
            kind: "RedisEnterpriseDatabase".to_owned(),
            namespace: text(choices),
            name: text(choices),
        },
        cluster: choices.one_in(2).then(|| text(choices)),
        ports: [number(choices).as_i64().unwrap()].into(),
    });
    let databases = neighbours.collect();
    let versions = ["8.1.1", "9.1.2", "x", ""];
    let node = (0..choices.next().unwrap_or(0) % 3).map(|_| Bundled {
        version: versions[usize::from(choices.next().unwrap_or(0)) % versions.len()].to_owned(),
        active_active: choices.one_in(2),
    });
    let brought = Bundle::of(&node.collect::<Vec<_>>());
    Surroundings {
        databases,
        gives_roles: [(text(choices), choices.one_in(2))].into(),
        bundles: [(text(choices), brought)].into(),
        own_modules: [text(choices)].into(),
        remote_clusters: [(text(choices), choices.one_in(2))].into(),
        secrets: [text(choices)].into(),
        joined: choices.one_in(2),
    }
}

#[test]
fn no_spec_breaks_validation() {
    let counts = Counts::default();
    let mut config = ProptestConfig::default();
    if let Some(specs) = std::env::var_os("MERIDIAN_SPECS") {
        let specs: u32 = specs.to_str().unwrap().parse().unwrap();
        config.cases = specs.div_ceil(SPECS_OF_A_CASE);
    }
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&vec(any::<u8>(), 0..900), |bytes| {
        let choices = &mut Choices(&bytes);
        let around = surroundings(choices);
        let mut redb =
            || counts.object::<RedisEnterpriseDatabase>("RedisEnterpriseDatabase", choices);
        if let (Some(old), Some(new)) = (redb(), redb()) {
            counts.judged(&validate::database(&new));
            counts.judged(&validate::database_update(&old, &new));
            counts.judged(&validate::database_among(Some(&old), &new, &around));
            counts.judged(&validate::database_among(None, &new, &around));
            validate::database_warnings(&new);
        }
        let kind = "RedisEnterpriseActiveActiveDatabase";
        let mut reaadb = || counts.object::<RedisEnterpriseActiveActiveDatabase>(kind, choices);
        if let (Some(old), Some(new)) = (reaadb(), reaadb()) {
            counts.judged(&validate::active_active_database(&new));
            counts.judged(&validate::active_active_database_update(&old, &new));
            counts.judged(&validate::active_active_database_among(
                Some(&old),
                &new,
                &around,
            ));
            counts.judged(&validate::active_active_database_among(None, &new, &around));
            counts.judged(&validate::active_active_database_deletion(&new.metadata));
            validate::active_active_database_warnings(&new);
            let told = active_active_database_among_warnings(Some(&old), &new, &around);
            assert!(told.iter().all(|warning| !warning.message.is_empty()));
        }
        let kind = "RedisEnterpriseRemoteCluster";
        let mut rerc = || counts.object::<RedisEnterpriseRemoteCluster>(kind, choices);
        for new in [rerc(), rerc()].into_iter().flatten() {
            counts.judged(&validate::remote_cluster(&new));
            counts.judged(&validate::remote_cluster_deletion(&new.metadata, &[]));
            validate::remote_cluster_warnings(&new);
        }
        let mut rec = || counts.object::<RedisEnterpriseCluster>("RedisEnterpriseCluster", choices);
        if let (Some(old), Some(new)) = (rec(), rec()) {
            counts.judged(&validate::cluster(&new));
            counts.judged(&validate::cluster_update(&old, &new));
            validate::cluster_warnings(&new);
        }
        Ok(())
    });
    outcome.unwrap();
    let (made, read, refused) = (counts.made.get(), counts.read.get(), counts.refused.get());
    println!("{made} random objects, {read} read, {refused} times refused");
    assert_eq!(made % u64::from(SPECS_OF_A_CASE), 0, "{made}");
    assert!(
        read * 2 > made,
        "most objects are not even read: {read} of {made}"
    );
    assert!(
        refused * 4 > read,
        "most objects are valid: {refused} of {read}"
    );
}
