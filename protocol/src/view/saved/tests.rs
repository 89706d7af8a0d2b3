use super::{super::Offer, *};
use crate::view::sample::{TODAY, during, params, record, secret, variant, view_of};

/// Four relays, of which one is established, one was reached, and one is barred.
fn view() -> View {
    let mut view = view_of(&[record(1, TODAY), record(2, TODAY), record(3, TODAY), variant(4, TODAY, 1)]);
    view.mark_reached(&secret(2).id(), "2600:9::1".parse().unwrap());
    assert!(matches!(view.offer(variant(4, TODAY, 2), during(TODAY)), Offer::Fraud(_)));
    view.establish(|relay| *relay == secret(1).id());
    view
}

fn load(bytes: &[u8]) -> Loaded {
    View::decode(bytes, &params(), during(TODAY).plus(60))
}

/// How many records and proofs of `view` are in `loaded`, after a look that there is nothing else.
fn kept(loaded: &Loaded, view: &View) -> usize {
    assert!(loaded.view.iter().all(|(relay, known)| view.get(relay) == Some(known)));
    assert!(loaded.view.frauds().all(|proof| view.frauds().any(|other| other == proof)));
    loaded.view.len() + loaded.view.frauds().count()
}

#[test]
fn a_view_survives() {
    let view = view();
    let loaded = load(&view.encode());
    assert_eq!((loaded.damaged, loaded.stale), (0, 0));
    assert_eq!(kept(&loaded, &view), 5);
    assert_eq!(loaded.view.begun, view.begun);
    assert_eq!(loaded.view.pending.len(), 3);
    assert!(loaded.view.is_barred(&secret(4).id(), during(TODAY)));
    assert_eq!(loaded.view.encode(), view.encode());
}

#[test]
fn a_file_that_was_cut_gives_what_is_whole_and_is_known_to_be_cut() {
    let (view, bytes) = (view(), view().encode());
    let mut before = 0;
    for length in 0..bytes.len() {
        let loaded = load(&bytes[..length]);
        let now = kept(&loaded, &view);
        assert!(loaded.damaged == 1 && (before..=before + 1).contains(&now), "{length}");
        before = now;
    }
    assert_eq!(before, 5);
}

#[test]
fn a_changed_byte_costs_one_entry() {
    let (view, mut bytes) = (view(), view().encode());
    for at in 0..bytes.len() {
        bytes[at] ^= 0x10;
        let loaded = load(&bytes);
        assert!(loaded.damaged == 1 && kept(&loaded, &view) >= 4, "{at}");
        bytes[at] ^= 0x10;
    }
}

#[test]
fn bytes_that_went_missing_or_came_in_cost_the_entry_where_they_did() {
    let (view, bytes) = (view(), view().encode());
    for at in (0..bytes.len()).step_by(7) {
        let missing = load(&[&bytes[..at], &bytes[at + 1..]].concat());
        let strange = load(&[&bytes[..at], &[2, 1, 0, 7], &bytes[at..]].concat());
        for loaded in [missing, strange] {
            assert!(loaded.damaged == 1 && kept(&loaded, &view) >= 4, "{at}");
        }
    }
    let zeros = load(&[0; 10_000]);
    assert!(zeros.view.is_empty() && zeros.damaged == 1);
}

#[test]
fn what_does_not_count_now_is_stale_and_not_damaged() {
    let (params, bytes) = (params(), view().encode());
    for epoch in [record(1, TODAY).record().expires(), Epoch(TODAY.0 - 1)] {
        let loaded = View::decode(&bytes, &params, epoch.start(&params.directory));
        assert_eq!((loaded.view.len(), loaded.damaged, loaded.stale), (0, 0, 4));
        let expired: Vec<_> = loaded.expired.iter().map(|entry| entry.id).collect();
        let reached = (epoch > TODAY).then_some(secret(2).id()); // where a record is of the future, the clock is wrong
        assert_eq!(expired, Vec::from_iter(reached), "who was reached may still be there");
        assert_eq!(loaded.expired_unreached.len(), if epoch > TODAY { 3 } else { 0 });
    }
}

#[test]
fn records_of_another_network_and_forged_ones_are_damaged() {
    let bytes = view().encode();
    let other = NetworkParams { allow_loopback: true, ..params() };
    let loaded = View::decode(&bytes, &other, during(TODAY));
    assert!(loaded.view.is_empty() && loaded.damaged == 5);
    let mut content = [0; 9].to_vec();
    content.extend(record(1, TODAY).record().bytes());
    *content.last_mut().unwrap() ^= 1;
    let mut forged = vec![];
    put(&mut forged, RECORD, &content);
    put(&mut forged, END, &1u32.to_le_bytes());
    assert_eq!((load(&forged).view.len(), load(&forged).damaged), (0, 1));
}

#[test]
fn nobody_was_first_seen_in_the_future_and_no_view_began_there() {
    let mut view = view_of(&[]);
    view.begun = TODAY.next();
    view.offer(record(1, TODAY), during(TODAY.next()));
    let loaded = load(&view.encode());
    assert_eq!(loaded.view.get(&secret(1).id()).unwrap().first_seen, during(TODAY).plus(60));
    assert_eq!(loaded.view.begun, TODAY);
}

#[test]
fn a_relay_that_is_there_twice_is_taken_once() {
    let view = view_of(&[record(1, TODAY)]);
    let bytes = view.encode();
    let twice = load(&[&bytes[..], &bytes].concat());
    assert_eq!((kept(&twice, &view), twice.damaged), (1, 1));
}
