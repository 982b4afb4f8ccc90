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
