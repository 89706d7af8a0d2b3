//! Whatever happens to a client, and whoever makes its guards fail: how many see its address.

use super::*;

/// What may happen to a client.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Jump(u64),
    Update { epochs: u32, from: u16, count: u16 },
    Dial(u8),
    Circuits { failed: bool, count: u32 },
    Feeler(bool),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..3 * DAY).prop_map(Event::Pass),
        1 => (0..200 * YEAR).prop_map(Event::Jump),
        3 => (0u32..6, 0u16..60, 0u16..80).prop_map(|(epochs, from, count)| Event::Update { epochs, from, count }),
        8 => (0u8..5).prop_map(Event::Dial),
        2 => (any::<bool>(), 1u32..30).prop_map(|(failed, count)| Event::Circuits { failed, count }),
        1 => any::<bool>().prop_map(Event::Feeler),
        1 => Just(Event::Restart),
    ]
}

/// Applies an event; the relay that was dialled, if one was.
fn apply(client: &mut Client, epoch: &mut u32, event: &Event) -> Option<RelayId> {
    match event {
        Event::Pass(seconds) => client.pass(*seconds),
        Event::Jump(now) => client.now = UnixSeconds(*now),
        Event::Update { epochs, from, count } => {
            *epoch += epochs;
            client.update(&usable(*epoch, *from..from + count));
        }
        Event::Dial(how) => {
            let attempt = [Attempt::Reached, Attempt::Failed, Attempt::Offline][usize::from(*how % 3)];
            return client.dial(attempt).ok().filter(|_| attempt != Attempt::Offline);
        }
        Event::Circuits { failed, count } => {
            let end = if *failed { CircuitEnd::Failed } else { CircuitEnd::Built };
            if let Some(guard) = client.in_use().first() {
                client.circuits(guard, end, *count);
            }
        }
        Event::Feeler(reached) => {
            if let Some(relay) = client.sample.feeler(client.now, &mut client.rng) {
                client.sample.handle_feeler(&relay, if *reached { Attempt::Reached } else { Attempt::Failed });
            }
        }
        Event::Restart => client.restart(),
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_exposure_is_bounded(events in prop::collection::vec(event(), 1..80), seed: u64) {
        let mut client = Client::new(seed);
        let (mut epoch, mut log) = (0, Vec::new());
        for event in &events {
            if let Some(relay) = apply(&mut client, &mut epoch, event) {
                let guard = client.sample.guards.iter().find(|guard| guard.relay == relay).unwrap();
                prop_assert!(guard.unlisted.is_none(), "only what is listed is dialled");
                log.push((client.sample.lived, relay));
            }
            let members: HashSet<_> = client.sample.members().collect();
            prop_assert!(members.len() == client.sample.guards.len() && members.len() <= 20);
            prop_assert!(client.sample.dialled() <= 4);
        }
        prop_assert_eq!(restored(&client.sample).members().collect::<Vec<_>>(), client.members());
        for (from, _) in &log {
            let span = log.iter().filter(|(at, _)| at >= from && at - from < secs(GUARDS_DIALLED_SPAN));
            let distinct: HashSet<_> = span.map(|(_, relay)| relay).collect();
            prop_assert!(distinct.len() <= 4, "{distinct:?}");
        }
    }
}

/// Of `CLIENTS` clients, how many reach a guard below `bad` of 1000 within 30 days, when somebody makes all others fail.
fn caught(bad: u16, make_fail: fn(&mut Client, RelayId)) -> f64 {
    const CLIENTS: u64 = 2000;
    let view = usable(3, 0..1000);
    let mut caught = 0;
    for seed in 0..CLIENTS {
        let mut client = Client::new(seed);
        client.update(&view);
        client.sample.guards.iter_mut().for_each(|guard| guard.provisional = None);
        let mut seen = HashSet::new();
        for _ in 0..29 * 4 {
            for _ in 0..5 {
                let Ok(guard) = client.choose() else { break };
                seen.insert(guard);
                make_fail(&mut client, guard);
            }
            client.pass(DAY / 4);
        }
        assert!(seen.len() <= 4);
        caught += u32::from(seen.iter().any(|guard| number(guard) < bad));
    }
    f64::from(caught) / 2000.0
}

#[test]
fn who_makes_guards_fail_one_after_the_other_meets_four_draws_and_no_more() {
    let dead: fn(&mut Client, RelayId) = |client, guard| client.sample.handle_dial(&guard, Attempt::Failed, client.now);
    let choosy: fn(&mut Client, RelayId) = |client, guard| {
        client.sample.handle_dial(&guard, Attempt::Reached, client.now);
        client.circuits(&guard, CircuitEnd::Failed, 20);
    };
    for make_fail in [dead, choosy] {
        for bad in [100, 200] {
            let honest = 1.0 - f64::from(bad) / 1000.0;
            let bound = 1.0 - honest.powi(4); // 34 % for a tenth, 59 % for a fifth; 20 draws would be 88 % and 99 %
            let caught = caught(bad, make_fail);
            // 5 standard deviations of 2000 trials.
            let tolerance = 5.0 * (bound * (1.0 - bound) / 2000.0).sqrt();
            assert!((caught - bound).abs() <= tolerance, "{caught} of {bound}");
        }
    }
}
