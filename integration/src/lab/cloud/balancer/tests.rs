use super::*;

fn service(spec: serde_json::Value, ip: Option<&str>) -> Service {
    let ingress = ip.map(|ip| json!([{"ip": ip}]));
    let value = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": ingress}},
    });
    serde_json::from_value(value).unwrap()
}

fn wished(name: &str, published: Option<[u8; 4]>) -> Wish {
    Wish {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        health_port: PROXY_HEALTH_PORT,
        published: published.map(Ipv4Addr::from),
    }
}

const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 1, 100), Ipv4Addr::new(10, 77, 1, 101)];

#[test]
fn only_balanced_services_without_a_class_of_their_own_wish_for_an_address() {
    assert_eq!(wish(&service(json!({"type": "ClusterIP"}), None)), None);
    assert_eq!(
        wish(&service(
            json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/x"}),
            None
        )),
        None
    );
    let wish = wish(&service(
        json!({"type": "LoadBalancer"}),
        Some("10.77.1.101"),
    ))
    .unwrap();
    assert_eq!(
        (wish.published, wish.health_port),
        (Some(POOL[1]), PROXY_HEALTH_PORT)
    );
}

#[test]
fn traffic_for_local_pods_only_asks_the_services_own_health_port() {
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31234});
    assert_eq!(wish(&service(spec, None)).unwrap().health_port, 31234);
}

#[test]
fn a_published_address_stays_and_a_new_service_gets_a_free_one() {
    let wishes = [wished("new", None), wished("old", Some([10, 77, 1, 100]))];
    let grants = grant(&wishes, &POOL, &BTreeMap::new(), 1, |_, _| true);
    let addresses: Vec<_> = grants
        .into_iter()
        .map(|grant| grant.unwrap().address)
        .collect();
    assert_eq!(addresses, [POOL[1], POOL[0]]);
}

#[test]
fn two_services_that_publish_the_same_address_are_told_apart() {
    let wishes = [
        wished("one", Some([10, 77, 1, 100])),
        wished("two", Some([10, 77, 1, 100])),
    ];
    let grants = grant(&wishes, &POOL, &BTreeMap::new(), 1, |_, _| true);
    assert_ne!(
        grants[0].as_ref().unwrap().address,
        grants[1].as_ref().unwrap().address
    );
}

#[test]
fn an_address_stays_on_its_node_while_it_is_fit_and_moves_when_it_is_not() {
    let wishes = [wished("web", Some([10, 77, 1, 100]))];
    let held = BTreeMap::from([(POOL[0], BTreeSet::from([1]))]);
    let node = |fit: fn(usize, u16) -> bool| {
        grant(&wishes, &POOL, &held, 3, fit)[0]
            .as_ref()
            .unwrap()
            .node
    };
    assert_eq!(node(|_, _| true), Some(1));
    assert_eq!(node(|node, _| node != 1), Some(0));
    assert_eq!(node(|_, _| false), None);
}

#[test]
fn addresses_spread_over_the_nodes() {
    let wishes = [wished("one", None), wished("two", None)];
    let grants = grant(&wishes, &POOL, &BTreeMap::new(), 2, |_, _| true);
    assert_ne!(
        grants[0].as_ref().unwrap().node,
        grants[1].as_ref().unwrap().node
    );
}

#[test]
fn a_service_too_many_gets_nothing_and_the_others_keep_theirs() {
    let wishes = [
        wished("one", None),
        wished("two", None),
        wished("three", None),
    ];
    let grants = grant(&wishes, &POOL, &BTreeMap::new(), 1, |_, _| true);
    assert_eq!(grants.iter().filter(|grant| grant.is_none()).count(), 1);
    assert_eq!(grants[2], None);
}

#[test]
fn a_nodes_own_address_is_not_taken_for_a_balancers() {
    let listing = "2: eth0 inet 10.77.1.10/16 scope global eth0\n2: eth0 inet 10.77.1.100/32 scope global eth0\n";
    assert_eq!(single_addresses(listing), [POOL[0]]);
}
