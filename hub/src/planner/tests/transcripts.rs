//! Whole stories: what happens, and each plan that follows, as committed text. `MERIDIAN_WRITE=1` writes them anew.

use std::fmt::Write as _;

use super::*;

/// A story as it is told.
struct Story {
    world: World,
    text: String,
}

impl Story {
    fn of(world: World) -> Self {
        Self {
            world,
            text: String::new(),
        }
    }

    /// Something happens; then it is planned until nothing is planned any more.
    fn then(&mut self, what: &str, happens: impl FnOnce(&mut World)) {
        writeln!(self.text, "# {what}").unwrap();
        happens(&mut self.world);
        loop {
            let next = plan(&self.world);
            if next.is_empty() {
                self.rests(&next);
                return;
            }
            let printed = self.named(&next);
            self.text.push_str(&printed);
            let before = self.world.memberships.clone();
            carry_out(&mut self.world, &next);
            self.members(&before);
        }
    }

    fn rests(&mut self, plan: &Plan) {
        self.text.push_str("nothing more is planned\n");
        for (database, lines) in &plan.report {
            for line in lines {
                writeln!(self.text, "  {database}: {line}").unwrap();
            }
        }
        self.text.push('\n');
    }

    fn members(&mut self, before: &BTreeMap<ObjectId, Membership>) {
        let databases = self.world.input.databases.values();
        let changed = databases.filter_map(|database| {
            let now = self.world.input.memberships.get(&database.object_id)?;
            let then = before.get(&database.object_id);
            then.is_none_or(|then| then.config_version != now.config_version)
                .then_some((database, now))
        });
        for (database, now) in changed {
            let members: Vec<_> = now
                .instances
                .iter()
                .map(|(name, id)| format!("{name}={id}"))
                .collect();
            writeln!(
                self.text,
                "  {}: configuration {}, members {}, ghosts {:?}",
                database.name,
                now.config_version,
                members.join(" "),
                now.ghosts
            )
            .unwrap();
        }
    }

    /// The plan with the names of members and objects for their numbers.
    fn named(&self, plan: &Plan) -> String {
        let mut text = plan.to_string();
        for n in 1..=9 {
            text = text.replace(&cluster(n).to_string(), &format!("lab-{n}"));
            for (kind, name) in [
                (0xdb, "the database"),
                (0xaa, "its instance"),
                (0xe0, "the remote cluster of lab-"),
            ] {
                let number = if kind == 0xe0 {
                    n.to_string()
                } else {
                    String::new()
                };
                text = text.replace(&object(kind, n).to_string(), &format!("{name}{number}"));
            }
        }
        text
    }

    fn is_as_written(&self, name: &str) {
        let path = format!("src/planner/tests/transcripts/{name}.txt");
        crate::golden::is_as_written(&path, &self.text);
    }
}

fn shop() -> Story {
    let mut story = Story::of(world(3));
    story.then("a database over three members", |world| {
        *world = with(world.clone(), [database(1, &[1, 2, 3])]);
    });
    story
}

#[test]
fn a_database_is_created_and_changed() {
    let mut story = shop();
    story.then("it gets more memory", |world| {
        let wanted = world.databases.get_mut("db-1").unwrap();
        wanted.spec["globalConfigurations"] = json!({ "memorySize": "200MB" });
    });
    story.then("lab-2 has another address", |world| {
        world.recs.get_mut(&cluster(2)).unwrap().recs[0].replication_address =
            "10.77.9.9:443".to_owned();
    });
    story.is_as_written("create-and-change");
}

#[test]
fn a_database_is_deleted() {
    let mut story = shop();
    story.then("its deletion is confirmed", |world| {
        confirmed(world, "db-1")
    });
    story.then("all members have deleted it", members_obey);
    story.then("and the remote clusters", members_obey);
    story.is_as_written("delete");
}

#[test]
fn a_database_is_deleted_while_a_member_is_away() {
    let mut story = shop();
    story.then("its deletion is confirmed", |world| {
        confirmed(world, "db-1")
    });
    story.then("lab-1 and lab-2 have deleted it, lab-3 is away", |world| {
        obeys(world, 1);
        obeys(world, 2);
    });
    story.then("lab-3 is declared lost", |world| lose(world, 3));
    story.is_as_written("delete-unreachable");
}

#[test]
fn a_participant_is_taken_out() {
    let mut story = shop();
    story.then(
        "lab-3 is taken out of the list, and its data may go",
        |world| {
            leave(world, 1, 3, "alice");
            world.seen.clear();
        },
    );
    story.then("all are connected and active, and lab-2 lags", |world| {
        all_read(world, 1);
        let place = (cluster(2), object(0xdb, 1));
        let seen = world.seen.get_mut(&place).unwrap();
        seen.caught_up.remove(&3);
    });
    story.then("lab-2 has read all that lab-3 wrote", |world| {
        all_read(world, 1);
    });
    story.then("lab-3 has deleted it", |world| obeys(world, 3));
    story.then("all have done what they were told", members_obey);
    story.is_as_written("remove-participant");
}

#[test]
fn a_member_is_lost() {
    let mut story = shop();
    story.then("lab-3 is declared lost", |world| lose(world, 3));
    story.then("the others have done what they were told", members_obey);
    story.then("lab-3 is taken out of the list", |world| {
        let shorter = database(1, &[1, 2]);
        world.databases.get_mut("db-1").unwrap().spec = shorter.spec;
    });
    story.is_as_written("lost-member");
}
