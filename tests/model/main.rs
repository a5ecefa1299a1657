//! Every order in which threads can send into a mailbox while its shard looks, sleeps and is woken: the source of
//! src/runtime/mailbox.rs, made of other parts.

mod sync;

#[path = "../../src/runtime/mailbox.rs"]
#[expect(dead_code, reason = "not all of it is for the model")]
mod mailbox;
#[path = "../../src/runtime/planted.rs"]
#[expect(dead_code, reason = "not all of it is for the model")]
mod planted;

use loom::thread;
use mailbox::{Mailbox, Sender};

/// With up to three switches from a thread that could go on: more find nothing new, and take for ever.
fn every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Two threads send one message each.
fn senders(sender: Sender<usize>) -> [thread::JoinHandle<()>; 2] {
    let other = sender.clone();
    [(sender, 1), (other, 2)]
        .map(|(sender, message)| thread::spawn(move || sender.try_send(message).expect("there is room for both")))
}

/// Waits as a shard does, for good if nothing wakes it.
fn sleep(mailbox: &Mailbox<usize>) {
    mailbox.signal().wait();
}

#[test]
fn wake_up_lost_by_who_looks_until_there_is_nothing() {
    every_order(|| {
        let (sender, mailbox) = mailbox::mailbox(2).expect("it is a model's");
        let threads = senders(sender);
        let mut seen = 0;
        while seen != 3 {
            sleep(&mailbox);
            while let Some(message) = mailbox.next() {
                seen += message;
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}

#[test]
fn wake_up_lost_by_who_looks_only_once_a_turn() {
    every_order(|| {
        let (sender, mailbox) = mailbox::mailbox(2).expect("it is a model's");
        let threads = senders(sender);
        let mut seen = 0;
        while seen != 3 {
            // A turn: what is there, up to a bound, and then the question.
            if !mailbox.is_empty()
                && let Some(message) = mailbox.next()
            {
                seen += message;
            }
            if seen != 3 && mailbox.may_sleep() {
                sleep(&mailbox);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    });
}
