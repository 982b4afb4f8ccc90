//! What happens in a run and when: deeds of people and faults of machines, drawn from the seed. A fault that lasts is mended
//! when its time is over, and all are before the world must come to rest.

use std::{collections::BTreeMap, time::Duration};

use meridian_hub::ca::Origin;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    agent::Agent, dice::Dice, member::Weather, network::Way, volume::Volume, world::World,
};

/// What puts a lasting fault right.
#[derive(Clone, Copy, Debug)]
enum Mend {
    Path(usize),
    Weather(usize),
    Agent(usize),
    Leftovers,
    Hub,
    Overtaken,
}

/// What is to be mended, by when.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    mends: BTreeMap<Instant, Vec<Mend>>,
}

impl Plan {
    fn later(&mut self, after: Duration, mend: Mend) {
        let due = self.mends.entry(Instant::now() + after).or_default();
        due.push(mend);
    }

    fn mended_by_the_way(&mut self) -> Vec<Mend> {
        let later = self
            .mends
            .split_off(&(Instant::now() + Duration::from_nanos(1)));
        let due = std::mem::replace(&mut self.mends, later);
        due.into_values().flatten().collect()
    }
}

/// Lets things happen, then puts everything right.
pub(crate) async fn play(world: &mut World) {
    let mut plan = Plan::default();
    let dice = world.dice.fork();
    // Sometimes everything is at rest first, so that there is something to lose.
    world.person.dice = dice.fork();
    for _ in 0..dice.in_range(8..26) {
        let pause = match dice.in_range(0..10) {
            0..=3 => dice.millis(0..300),
            4..=8 => dice.millis(300..12_000),
            _ => dice.millis(12_000..70_000),
        };
        wait(world, &mut plan, pause).await;
        happen(world, &mut plan, &dice).await;
        world.must_be_well();
    }
    put_right(world, &mut plan).await;
}

async fn wait(world: &mut World, plan: &mut Plan, pause: Duration) {
    let until = Instant::now() + pause;
    loop {
        for mend in plan.mended_by_the_way() {
            mended(world, mend).await;
        }
        match plan.mends.keys().next() {
            Some(next) if *next < until => sleep_until(*next).await,
            _ => break sleep_until(until).await,
        }
    }
}

async fn mended(world: &mut World, mend: Mend) {
    world.trace.note("mended", format_args!("{mend:?}"));
    match mend {
        Mend::Path(number) => {
            let path = &world.members[number].wires.path;
            path.cut(Way::ToHub, false);
            path.cut(Way::ToAgent, false);
            path.read_nothing(false);
            path.slow_down(false);
        }
        Mend::Weather(number) => world.members[number].kubernetes.set_weather(Weather::Fair),
        Mend::Agent(number) => world.start_agent(number),
        Mend::Leftovers => world.leftovers.drain(..).for_each(Agent::kill),
        Mend::Hub if world.hub.is_none() => world.start_hub(Origin::Loaded).await,
        Mend::Hub => {}
        Mend::Overtaken => world.end_overtaken(),
    }
}

async fn put_right(world: &mut World, plan: &mut Plan) {
    let all: Vec<_> = (0..world.members.len()).collect();
    let due = std::mem::take(&mut plan.mends).into_values().flatten();
    for mend in due {
        mended(world, mend).await;
    }
    for number in all {
        world.start_agent(number);
        world.person.cleans_up(&world.members[number]);
    }
    mended(world, Mend::Hub).await;
    world.trace.note("world", "all is mended");
}

async fn happen(world: &mut World, plan: &mut Plan, dice: &Dice) {
    match dice.in_range(0..100) {
        0..=39 => people(world, dice).await,
        40..=62 => network(world, plan, dice).await,
        63..=74 => agents(world, plan, dice).await,
        75..=82 => weather(world, plan, dice),
        83..=93 => hubs(world, plan, dice).await,
        _ => stores(world, dice).await,
    }
}

fn some_member(world: &World, dice: &Dice) -> usize {
    usize::try_from(dice.in_range(0..world.members.len() as u64)).unwrap()
}

async fn people(world: &mut World, dice: &Dice) {
    let number = some_member(world, dice);
    let (person, member) = (world.person.clone(), world.members[number].clone());
    let Some(hub) = world.hub.clone() else { return };
    match dice.in_range(0..24) {
        0..=6 => person.creates(&hub).await,
        7..=9 => person.changes(&hub).await,
        10..=12 => person.deletes(&hub).await,
        13 => person.proposes(&hub, &member).await,
        14 => person.meddles(&member),
        15 => person.adopts(&hub).await,
        16 => world.thaws().await,
        20 => person.deletes_all(&hub).await,
        21..=23 => {
            // It is away for long enough, is given up, and comes back all the same.
            world.kill_agent(2);
            sleep(Duration::from_secs(45)).await;
            person.loses(&hub, &world.members[2]).await;
            world.start_agent(2);
        }
        17 if dice.in_thousand(250) => person.removes(&hub, &world.members[3]).await,
        17 => {
            let other = (number + 1) % world.members.len();
            world.impostor(number, other).await;
        }
        18 => world.back_up().await,
        _ => {
            world.trace.note("person", "puts a copy of the store aside");
            world.copies.push(world.volume.copied());
        }
    }
}

async fn network(world: &mut World, plan: &mut Plan, dice: &Dice) {
    let number = some_member(world, dice);
    let lasting = match dice.in_range(0..3) {
        0 => dice.millis(10..2_000),
        1 => dice.millis(2_000..28_000),
        _ => dice.millis(28_000..150_000),
    };
    let path = &world.members[number].wires.path;
    let what = match dice.in_range(0..8) {
        0..=1 => {
            path.cut(Way::ToHub, true);
            path.cut(Way::ToAgent, true);
            "is cut off"
        }
        2 => {
            path.cut(Way::ToHub, true);
            "cannot send"
        }
        3 => {
            path.cut(Way::ToAgent, true);
            "cannot hear"
        }
        4 => {
            path.read_nothing(true);
            "reads nothing"
        }
        5 => {
            path.slow_down(true);
            "has a slow network"
        }
        6 => {
            if let Some(agent) = &world.agents[number] {
                agent.forgets();
            }
            "loses its connection and dials again"
        }
        _ => {
            if let Some(agent) = &world.agents[number] {
                agent.moves();
            }
            "moves to another connection"
        }
    };
    world.trace.note(&world.members[number].name, what);
    plan.later(lasting, Mend::Path(number));
    sleep(dice.millis(0..20)).await;
}

async fn agents(world: &mut World, plan: &mut Plan, dice: &Dice) {
    let number = some_member(world, dice);
    match dice.in_range(0..8) {
        0..=2 => {
            world.kill_agent(number);
            plan.later(dice.millis(0..20_000), Mend::Agent(number));
        }
        3 => {
            if let Some(agent) = world.agents[number].take() {
                world.trace.note(&world.members[number].name, "agent ends");
                agent.end().await;
            }
            plan.later(dice.millis(0..20_000), Mend::Agent(number));
        }
        4 => {
            // A leader that lost its Lease without noticing, for less than its Lease lasts.
            if let Some(agent) = world.agents[number].take() {
                world
                    .trace
                    .note(&world.members[number].name, "two agents lead");
                world.leftovers.push(agent);
                plan.later(dice.millis(100..9_000), Mend::Leftovers);
            }
            world.start_agent(number);
        }
        _ => {
            let seconds = i64::try_from(dice.in_range(1..400_000)).unwrap();
            let seconds = if dice.in_thousand(500) {
                seconds
            } else {
                -seconds
            };
            world.trace.note(
                &world.members[number].name,
                format_args!("clock set by {seconds} s"),
            );
            world.members[number].wall.step(seconds);
        }
    }
}

fn weather(world: &mut World, plan: &mut Plan, dice: &Dice) {
    let number = some_member(world, dice);
    let weather = if dice.in_thousand(600) {
        Weather::Stormy
    } else {
        Weather::Down
    };
    world
        .trace
        .note(&world.members[number].name, format_args!("{weather:?}"));
    world.members[number].kubernetes.set_weather(weather);
    plan.later(dice.millis(500..60_000), Mend::Weather(number));
}

async fn hubs(world: &mut World, plan: &mut Plan, dice: &Dice) {
    match dice.in_range(0..8) {
        0..=3 => {
            world.kill_hub();
            plan.later(dice.millis(0..50_000), Mend::Hub);
        }
        4 => {
            world.end_hub().await;
            plan.later(dice.millis(0..20_000), Mend::Hub);
        }
        5..=6 => {
            world.overtake_hub().await;
            plan.later(dice.millis(100..20_000), Mend::Overtaken);
        }
        _ => {
            let seconds = i64::try_from(dice.in_range(1..400_000)).unwrap();
            let seconds = if dice.in_thousand(500) {
                seconds
            } else {
                -seconds
            };
            world
                .trace
                .note("hub", format_args!("clock set by {seconds} s"));
            world.site.wall.step(seconds);
        }
    }
}

async fn stores(world: &mut World, dice: &Dice) {
    match dice.in_range(0..5) {
        0..=2 => {
            if let Some(copy) = dice.pick(&world.copies).map(Volume::copied) {
                world
                    .trace
                    .note("person", "puts an older copy of the store back");
                world.replace_volume(copy).await;
            }
        }
        3 => world.restore_backup().await,
        _ => {
            world.trace.note("person", "loses the store");
            world.replace_volume(Volume::default()).await;
        }
    }
}
