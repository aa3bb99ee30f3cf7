//! The book of one payment under any order of events, replays and restarts, against what a person would say.

use proptest::prelude::*;

use super::*;
use crate::ledger::State;

#[derive(Clone, Debug)]
enum Event {
    Begin,
    Sent,
    Failed,
    Unknown,
    Attempt,
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Begin),
        1 => Just(Event::Sent),
        3 => Just(Event::Failed),
        2 => Just(Event::Unknown),
        2 => Just(Event::Attempt),
        1 => Just(Event::Restart),
    ]
}

/// What a person would say who reads all that happened, from the first to the last.
fn story(events: &[Event]) -> Option<State> {
    // Paid is paid, whenever it was heard.
    if events.iter().any(|event| matches!(event, Event::Sent)) {
        return Some(State::Succeeded);
    }
    // Otherwise the last try counts: it begins where the one before had failed.
    let mut tries: Vec<Vec<&Event>> = Vec::new();
    for event in events {
        let over = tries.last().is_none_or(|events| events.iter().any(|event| matches!(event, Event::Failed)));
        match (event, tries.last_mut()) {
            (Event::Begin, _) if over => tries.push(Vec::new()),
            (event, Some(last)) if !over => last.push(event),
            _ => {}
        }
    }
    let last = tries.last()?;
    if last.iter().any(|event| matches!(event, Event::Failed)) {
        Some(State::Failed)
    } else if last.iter().any(|event| matches!(event, Event::Unknown)) {
        Some(State::Unknown)
    } else {
        Some(State::Pending)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_book_says_what_a_person_would_say(events in prop::collection::vec(event(), 1..20)) {
        let (dir, mut store, mut ledger) = fresh();
        for (index, event) in events.iter().enumerate() {
            let before = story(&events[..index]);
            match event {
                Event::Begin => match ledger.begin_send(new_send(1)).unwrap() {
                    Begun::Fresh(token) => {
                        token.handed_over();
                        prop_assert!(matches!(before, None | Some(State::Failed)), "begun although {before:?}");
                    }
                    Begun::InFlight(_) => {
                        prop_assert!(matches!(before, Some(State::Pending | State::Unknown)), "in flight although {before:?}");
                    }
                    Begun::Paid(_) => prop_assert_eq!(before, Some(State::Succeeded)),
                },
                Event::Sent => drop(ledger.sent([1; 32], [2; 32], Some(3)).unwrap()),
                Event::Failed => drop(ledger.failed([1; 32], "failed").unwrap()),
                Event::Unknown => drop(ledger.unknown([1; 32], "unknown", Some(9)).unwrap()),
                Event::Attempt => ledger.attempt([1; 32]),
                Event::Restart => {
                    drop(ledger);
                    store.close().unwrap();
                    (store, ledger) = open(dir.path());
                }
            }
            let record = ledger.send_of([1; 32]).unwrap();
            let told = story(&events[..=index]);
            prop_assert_eq!(record.as_ref().map(|record| record.state), told);
            let open = record.as_ref().is_some_and(Record::is_open);
            prop_assert_eq!(ledger.open_sends().unwrap().len(), usize::from(open));
            if let Some(record) = record {
                prop_assert_eq!(record.preimage.is_some(), record.state == State::Succeeded);
                prop_assert_eq!(record.open_until_height.is_some(), record.state == State::Unknown);
            }
        }
    }
}
