//! The checker refuses what no plan may do.

use super::*;

#[test]
fn the_checker_refuses_an_unapproved_deletion() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    let place = (cluster(1), object(0xdb, 1));
    let told = input.told[&place].clone();
    let deletion = |approval: &str| {
        let action = Action::Delete {
            approval: approval.to_owned(),
            reason: String::new(),
        };
        let number = PlanNumber(input.plan_number.0 + 1);
        Plan {
            number,
            tell: [(
                place,
                Desired {
                    action,
                    ..told.clone()
                },
            )]
            .into(),
            ..Plan::default()
        }
    };
    assert!(
        matches!(
            check(&input, &deletion("alice")),
            Err(Breach::Unapproved { .. })
        ),
        "nobody confirmed it"
    );
    let mut input = input.clone();
    confirmed(&mut input, "db-1");
    assert!(
        matches!(check(&input, &deletion("")), Err(Breach::Unapproved { .. })),
        "nobody is named"
    );
    check(&input, &deletion("alice")).unwrap();
}

#[test]
fn the_checker_refuses_what_forgets_too_early() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    let number = PlanNumber(input.plan_number.0 + 1);
    let place = (cluster(1), object(0xdb, 1));
    let forget = Plan {
        number,
        forget: [place].into(),
        ..Plan::default()
    };
    assert_eq!(check(&input, &forget), Err(Breach::ForgottenEarly(place)));
    let finish = Plan {
        number,
        finished: ["db-1".to_owned()].into(),
        ..Plan::default()
    };
    assert_eq!(
        check(&input, &finish),
        Err(Breach::FinishedEarly("db-1".to_owned()))
    );
    let unnumbered = Plan {
        number: input.plan_number,
        ..forget
    };
    assert_eq!(
        check(&input, &unnumbered),
        Err(Breach::NumberReused(input.plan_number.0))
    );
}

#[test]
fn the_checker_refuses_reused_instance_ids_and_standing_configurations() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    let database = object(0xdb, 1);
    let number = PlanNumber(input.plan_number.0 + 1);
    let changed = |change: &dyn Fn(&mut Membership)| {
        let mut membership = input.memberships[&database].clone();
        change(&mut membership);
        check(
            &input,
            &Plan {
                number,
                memberships: [(database, membership)].into(),
                ..Plan::default()
            },
        )
    };
    let twice = changed(&|membership| {
        membership.instances.insert("lab-3".to_owned(), 2);
        membership.config_version += 1;
    });
    assert!(
        matches!(twice, Err(Breach::InstanceIdReused { id: 2, .. })),
        "{twice:?}"
    );
    let ghost = changed(&|membership| membership.ghosts.push(1));
    assert!(
        matches!(ghost, Err(Breach::InstanceIdReused { id: 1, .. })),
        "{ghost:?}"
    );
    let stands = changed(&|membership| {
        membership.instances.insert("lab-3".to_owned(), 3);
        membership.highest_instance_id = 3;
    });
    assert!(
        matches!(stands, Err(Breach::ConfigVersionStands { .. })),
        "{stands:?}"
    );
}

/// A database whose membership says that its highest id was never given: the next one would be given twice.
fn forgetful(world: &mut World, name: &str) {
    let database = world.databases[name].object_id;
    let membership = world.memberships.get_mut(&database).unwrap();
    membership.instances.remove("lab-2");
    membership.highest_instance_id = 0;
}

#[test]
fn what_is_wrong_with_one_database_is_left_out_and_the_others_are_planned() {
    let mut input = with(world(3), [database(1, &[1, 2])]);
    settle(&mut input);
    forgetful(&mut input, "db-1");
    let mut input = with(input, [database(2, &[1, 3])]);
    let mut made = plan(&input);
    assert!(
        check(&input, &made).is_err(),
        "the plan of db-1 breaks a rule"
    );
    let left_out = hold_back(&input, &mut made).unwrap();
    check(&input, &made).unwrap();
    assert_eq!(left_out.databases.keys().collect::<Vec<_>>(), ["db-1"]);
    assert!(left_out.again.databases.contains("db-1"));
    let touches = |plan: &Plan, n: u8| {
        let told = plan.tell.keys().map(|place| place.1);
        let mut all = told.chain(plan.memberships.keys().copied());
        all.any(|id| id == object(0xdb, n) || id == object(0xaa, n))
    };
    assert!(!touches(&made, 1) && touches(&made, 2));
    assert!(made.report["db-1"][0].contains("is held back"), "{made}");
    // Once it is carried out for the others, nothing is left that could be.
    carry_out(&mut input, &made);
    let mut again = plan(&input);
    hold_back(&input, &mut again).unwrap();
    assert!(again.is_empty(), "{again}");
    assert_eq!(again.number, input.plan_number);
}

#[test]
fn nothing_is_taken_away_that_a_database_which_cannot_be_read_may_need() {
    let mut input = with(world(2), [database(1, &[1, 2])]);
    settle(&mut input);
    input.databases.remove("db-1");
    let rercs = |plan: &Plan| plan.tell.values().filter(|told| told.kind == RERC).count();
    let mut gone = plan(&input);
    assert_eq!(rercs(&gone), 4, "nobody needs them");
    let unreadable = ("db-1".to_owned(), "of a later version".to_owned());
    input.unreadable.databases = [unreadable].into();
    hold_back(&input, &mut gone).unwrap();
    assert_eq!(rercs(&gone), 0);
}
