//! Mailboxes with the kernel's readiness. Their protocol by itself is modelled in tests/model, which includes their source, and so
//! these are not in it.

use super::mailbox::mailbox;
use crate::runtime::readiness::{Interest, Readiness};

#[test]
fn no_wake_up_is_lost() {
    let (sender, mailbox) = mailbox(8).unwrap();
    let readiness = Readiness::new().unwrap();
    readiness.add(mailbox.signal(), 1, Interest::Read).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || (0..10_000).for_each(|number| sender.send(number).unwrap()))
        })
        .collect();
    let mut ready = Vec::new();
    let mut seen = 0;
    while seen < 40_000 {
        // Blocks for good, and the test with it, if a wake-up is lost.
        readiness.wait_blocking(&mut ready).unwrap();
        while mailbox.next().is_some() {
            seen += 1;
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(mailbox.next().is_none() && mailbox.is_empty());
}

#[test]
fn a_reader_that_stops_early_is_woken_again() {
    let (sender, mailbox) = mailbox(8).unwrap();
    let readiness = Readiness::new().unwrap();
    readiness.add(mailbox.signal(), 1, Interest::Read).unwrap();
    let mut ready = Vec::new();
    for number in 0..3 {
        sender.try_send(number).unwrap();
        readiness.poll(&mut ready).unwrap();
        assert_eq!(
            (ready.len(), mailbox.next()),
            (1, Some(number)),
            "just as many as there were, and no look for more"
        );
        assert!(mailbox.may_sleep());
    }
    sender.try_send(3).unwrap();
    assert!(!mailbox.may_sleep());
}

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let (sender, mailbox) = mailbox(1).unwrap();
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Err(2));
    assert_eq!((mailbox.next(), mailbox.next()), (Some(1), None));
    drop(mailbox);
    assert_eq!(sender.send(3), Err(3));
}
