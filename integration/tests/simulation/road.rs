//! A request is followed by its trace through the logs of the hub and of the members, also where the hub died in between.

use std::{
    cell::Cell,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use meridian_api::trace::TraceId;
use meridian_hub::{app::writes::Manner, ca::Origin};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, dynamic_filter_fn},
    layer::SubscriberExt as _,
};

use super::{rest, world::World};

thread_local! {
    /// Whether what this thread logs is kept.
    static LISTENS: Cell<bool> = const { Cell::new(false) };
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_request_is_found_by_its_trace_in_the_logs_of_hub_and_members() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .with_filter(LevelFilter::INFO)
        .with_filter(dynamic_filter_fn(|_, _| LISTENS.get()));
    // For all threads, but heard on this one alone: what one thread alone logs to is forgotten where other threads log to nothing.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).unwrap();
    LISTENS.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let trace = TraceId::of_bits(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    runtime.block_on(async {
        let mut world = World::new(5, false).await;
        rest::come_to_rest(&mut world).await;
        let mut manner = Manner::default();
        manner.by.trail.trace = Some(trace);
        let person = world.person.clone();
        person
            .creates_as(world.hub.as_ref().unwrap(), "orders", &manner)
            .await;
        // Before it has planned anything.
        world.kill_hub();
        world.start_hub(Origin::Loaded).await;
        rest::come_to_rest(&mut world).await;
        assert_eq!(world.trace.violations(), Vec::<String>::new());
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let trace = trace.to_string();
    let road: Vec<_> = log.lines().filter(|line| line.contains(&trace)).collect();
    let count = |what| road.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("a plan carries out a request"), 1, "{road:#?}");
    // The database and its instance, on each of at least two members.
    for what in [
        "a member is told an object",
        "an order of the hub was carried out",
        "a member says what became of an object",
    ] {
        assert!(count(what) >= 4, "{what}: {road:#?}");
    }
}
