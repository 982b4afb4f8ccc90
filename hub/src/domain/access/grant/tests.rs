use super::*;

fn shop() -> Scope {
    Scope::only(["shop".to_owned()].into())
}

/// The whole table: kind, then for each verb who may, `-` for nobody.
const TABLE: &str = "
                        list      get       create    update    delete    adopt     approve   deny      release   lose      rotate    advance   abort
cluster                 viewer    viewer    -         -         admin     -         admin     admin     admin     admin     -         -         -
join token              operator  operator  admin     -         admin     -         -         -         -         -         -         -         -
remote cluster          viewer    viewer    -         -         -         -         -         -         -         -         -         -         -
Active-Active database  viewer    viewer    operator  operator  operator  -         -         -         -         -         -         -         -
hub                     admin     viewer    -         -         -         admin     -         -         admin     -         -         -         -
backup                  -         admin     -         -         -         -         -         -         -         -         -         -         -
API token               admin     admin     admin     -         admin     -         -         -         -         -         -         -         -
audit log               admin     -         -         -         -         -         -         -         -         -         -         -         -
certificate authority   -         admin     -         -         -         -         -         -         -         -         admin     admin     admin
inside of the hub       viewer    admin     -         admin     -         -         -         -         -         -         -         -         -
";

#[test]
fn the_table_of_rights_is_complete_and_each_role_has_those_before_it() {
    let mut rows = TABLE.lines().skip(2).filter(|line| !line.is_empty());
    for kind in Kind::ALL {
        let row = rows.next().unwrap();
        let cells = row.strip_prefix(kind.word()).unwrap();
        let cells: Vec<_> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), Verb::ALL.len(), "{row}");
        for (verb, cell) in Verb::ALL.into_iter().zip(cells) {
            let project = None;
            let act = Act {
                verb,
                kind,
                project,
            };
            let needed = Role::ALL.into_iter().find(|role| role.word() == cell);
            for role in Role::ALL {
                let decided = authorize(role, &Scope::all(), act);
                let allowed = needed.is_some_and(|needed| role >= needed);
                assert_eq!(decided.is_ok(), allowed, "{role} {verb:?} {kind:?}");
                if let Err(Refusal::Role { needed, .. }) = decided {
                    assert_eq!(needed.word(), cell);
                }
            }
        }
    }
    assert_eq!(rows.next(), None);
}

#[test]
fn whoever_is_limited_to_projects_does_nothing_that_concerns_the_whole_hub() {
    for kind in Kind::ALL {
        for verb in Verb::ALL {
            let project = None;
            let act = Act {
                verb,
                kind,
                project,
            };
            let decided = authorize(Role::Admin, &shop(), act);
            let of_projects = kind == Kind::Database && least(kind, verb).is_some();
            let read = matches!(
                (kind, verb),
                (Kind::Cluster | Kind::RemoteCluster, Verb::List | Verb::Get)
                    | (Kind::Hub, Verb::Get)
            );
            assert_eq!(decided.is_ok(), of_projects || read, "{verb:?} {kind:?}");
        }
    }
}

#[test]
fn what_belongs_to_others_is_unseen_and_nothing_is_made_there() {
    for verb in [Verb::List, Verb::Get, Verb::Update, Verb::Delete] {
        let kind = Kind::Database;
        let act = |project| Act {
            verb,
            kind,
            project: Some(project),
        };
        assert_eq!(authorize(Role::Operator, &shop(), act("shop")), Ok(()));
        let unseen = authorize(Role::Operator, &shop(), act("bank"));
        assert_eq!(unseen, Err(Refusal::Unseen { kind }), "{verb:?}");
        assert_eq!(
            authorize(Role::Operator, &Scope::all(), act("bank")),
            Ok(())
        );
    }
    let act = Act {
        verb: Verb::Create,
        kind: Kind::Database,
        project: Some("bank"),
    };
    let refused = authorize(Role::Operator, &shop(), act).unwrap_err();
    let told = refused.to_string();
    for part in ["\"bank\"", "limited to shop"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_scope_is_kept_as_its_projects_and_nothing_kept_is_all_of_them() {
    assert_eq!(serde_json::to_string(&shop()).unwrap(), "[\"shop\"]");
    let all: Scope = serde_json::from_str("null").unwrap();
    assert!(all.sees("anything") && all == Scope::all());
    assert!(!Scope::only(BTreeSet::new()).sees("default"));
}
