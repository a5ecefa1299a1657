use super::*;
use std::time::Duration;

fn most() -> Most {
    Most {
        connections: None,
        address_connections: 0,
        address_connects: 0,
        publishes: 0,
        topics: 100,
        memory: Memory::Percent(50),
        backlog: Some(Memory::Bytes(1000)),
        turn: Duration::ZERO,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_ipv6_customer_is_one_and_an_ipv4_address_has_one_spelling() {
    let admission = Admission::new(&most(), &[], 2, 100, 3, Instant::now());
    let key = |text| admission.address_key(address(text));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    assert_ne!(key("192.0.2.2"), key("192.0.2.1"));
    assert_ne!(key("0.0.0.1"), key("::1"));
}

#[test]
fn counts_come_and_go() {
    let limits = Most { address_connections: 2, ..most() };
    let admission = Admission::new(&limits, &[], 2, 100, 3, Instant::now());
    let (now, key) = (Instant::now(), admission.address_key(address("192.0.2.1")));
    assert_eq!(admission.enter(key, now), Ok(Some(key)));
    assert_eq!(admission.enter(key, now), Ok(Some(key)));
    assert_eq!(admission.enter(key, now), Err(Refusal::AddressConnections));
    admission.leave(key);
    assert_eq!(admission.enter(key, now), Ok(Some(key)));
    assert_eq!([(); 4].map(|()| admission.came()), [true, true, true, false]);
    admission.went();
    admission.went();
    assert!(admission.came() && admission.connections().0 == 2 && admission.came() && !admission.came());
    admission.came_inside();
    assert_eq!(admission.connections(), (4, 3));
    admission.went();
    assert!(!admission.came(), "who is not let in makes no room by going");
    assert!(admission.refuse() && !admission.refuse());
    admission.gone();
    assert!(admission.refuse());
}

#[test]
fn shares_are_of_what_there_is() {
    let admission = Admission::new(&most(), &[], 4, 100, 3, Instant::now());
    let held = admission.held_max(&most());
    assert_eq!((held[Use::Streams as usize], held[Use::Cores as usize]), (250, HELD_BYTES_MIN));
    admission.note_memory(50);
    assert!(!admission.memory_is_full());
    admission.note_memory(51);
    assert!(admission.memory_is_full() && admission.memory() == (51, 50));
}

#[test]
fn what_comes_between_two_looks_counts() {
    let admission = Admission::new(&most(), &[], 2, 100, 3, Instant::now());
    admission.note_held(0, 10);
    admission.note_memory(30);
    admission.note_held(10, 25);
    assert!(admission.has_room(5) && !admission.has_room(6) && admission.memory() == (45, 50));
    // Of another shard.
    admission.note_held(0, 6);
    assert!(admission.memory_is_full());
    admission.note_memory(35);
    assert!(admission.has_room(15) && admission.held() == 31);
    // What was given up may stay resident.
    admission.note_held(25, 0);
    assert_eq!(admission.memory(), (35, 50));
}

#[test]
fn what_streams_may_hold_follows_from_max_memory_unless_it_is_given() {
    let of_memory = Most { memory: Memory::Bytes(400 << 20), backlog: None, ..most() };
    let held = |available, most: &Most| {
        Admission::new(most, &[], 2, available, 3, Instant::now()).held_max(most)[Use::Streams as usize]
    };
    assert_eq!(held(1 << 40, &of_memory), 30 << 20);
    assert_eq!(held(400 << 20, &Most { memory: Memory::Percent(100), ..of_memory }), 30 << 20);
    assert_eq!(held(1 << 40, &Most { backlog: Some(Memory::Bytes(1000)), ..of_memory }), 500);
}

#[test]
fn other_limits_hold_for_who_comes_next_and_count_who_is_in() {
    let admission = Admission::new(&most(), &[], 2, 100, 3, Instant::now());
    let (now, key) = (Instant::now(), admission.address_key(address("192.0.2.1")));
    assert_eq!(admission.enter(key, now), Ok(None), "nothing is counted while nothing is limited");
    admission.bound(&Most { address_connections: 1, connections: Some(1), ..most() }, &["10.0.0.0/8".parse().unwrap()]);
    assert!(admission.is_proxy(address("10.1.2.3")) && admission.asks_for_addresses());
    assert!(admission.came() && !admission.came());
    assert_eq!(admission.enter(key, now), Ok(Some(key)));
    assert_eq!(admission.enter(key, now), Err(Refusal::AddressConnections));
    admission.bound(&most(), &[]);
    assert_eq!(admission.enter(key, now), Ok(None));
    assert!(admission.came() && !admission.is_proxy(address("10.1.2.3")));
    admission.bound(&Most { connections: Some(9), ..most() }, &[]);
    assert_eq!(admission.connections(), (2, 3), "no more than fit");
    // What was counted before still leaves, and is still there if the limit comes back.
    admission.bound(&Most { address_connections: 2, publishes: 1, ..most() }, &[]);
    assert_eq!(admission.enter(key, now), Ok(Some(key)));
    assert_eq!(admission.enter(key, now), Err(Refusal::AddressConnections));
    admission.leave(key);
    admission.leave(key);
    assert_eq!(admission.enter(key, now), Ok(Some(key)));
    assert!(admission.publish(9, now).is_ok() && admission.publish(9, now).is_err());
    admission.bound(&most(), &[]);
    assert_eq!(admission.publish(9, now), Ok(()));
}

#[test]
fn refusals_say_when_to_come_back() {
    for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal.index(), place);
        assert!(
            matches!(refusal.error().status, Status::TooManyRequests | Status::ServiceUnavailable)
                && refusal.error().retry_after.is_some()
        );
    }
    let limits = Most { publishes: 1, ..most() };
    let admission = Admission::new(&limits, &[], 1, 100, 3, Instant::now());
    let now = Instant::now();
    assert_eq!(admission.publish(9, now), Ok(()));
    assert_eq!(admission.publish(9, now), Err(Refusal::Publishes(1)));
    assert_eq!(admission.publish(0, now), Ok(()), "what is nobody's is not limited");
}
