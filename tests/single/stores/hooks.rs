//! Deliveries of hooks: stored once for each change of a state, taken in the order of each subject, by one backend at a time, and
//! given again where nobody says what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare::db::hooks::{Delivery, HookAsk, HookCommand, HookKey, HookLook, HookOutcome, Note, Settling, Step};
use fanfare::db::rules::Standing;
use fanfare::db::{Command, Deletion, Outcome, PostKind};
use fanfare::wire::hooks::HookEvent;
use serde_json::{Value, json};

use super::{Caller, Database, on_both};
use crate::support::eventually;

on_both! {
    state_told_twice_or_not_at_all
    older_news_taken_for_newer
    limit_told_too_often
    deliveries_behind_one_that_failed_taken
    all_that_waits_written_anew_for_one_that_failed
    delivery_of_a_dead_backend_lost
    delivery_given_to_two_backends
    sequence_with_holes
    comment_and_its_delivery_apart
    text_of_a_deleted_comment_delivered
    comment_before_hooks_are_known_untold
    ended_hook_goes_on
    states_listed_wrong
}

const AT: u64 = 1_732_313_131_123;
const CLAIM_MS: u64 = 3_600_000;

fn key(name: &str) -> HookKey {
    name.into()
}

fn run(caller: &Caller, command: HookCommand) -> HookOutcome {
    match caller.run(Command::Hooks(command)) {
        Outcome::Hooks(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn open(caller: &Caller) {
    let hooks = [key("h"), key("other")].into();
    assert_eq!(run(caller, HookCommand::Open(hooks)), HookOutcome::Done);
}

fn note(subject: &str, step: Step, version: u64) -> Note {
    let event = match step {
        Step::Begins => HookEvent::MemberOnline,
        Step::Ends => HookEvent::MemberOffline,
        Step::Repeats(_) => HookEvent::LimitExceeded,
    };
    let delivery = Some((event, json!({"version": version}).to_string()));
    Note { hook: key("h"), subject: subject.to_owned(), step, version, delivery, at: AT }
}

fn tell(caller: &Caller, notes: impl IntoIterator<Item = Note>) {
    let notes: Arc<[Note]> = notes.into_iter().collect();
    assert_eq!(run(caller, HookCommand::Note(notes)), HookOutcome::Done);
}

fn take_for(caller: &Caller, claim_ms: u64, limit: u32) -> Vec<Delivery> {
    let ask = HookAsk { hook: key("h"), claim_ms, limit, look: false };
    match run(caller, HookCommand::Take(ask)) {
        HookOutcome::Taken { deliveries, look: None, ended: false } => deliveries,
        other => panic!("{other:?}"),
    }
}

fn take(caller: &Caller) -> Vec<Delivery> {
    take_for(caller, CLAIM_MS, 100)
}

fn settle(caller: &Caller, settled: impl IntoIterator<Item = (i64, Settling)>) {
    let command = HookCommand::Settle { hook: key("h"), settled: settled.into_iter().collect(), ends: false };
    assert_eq!(run(caller, command), HookOutcome::Done);
}

/// Subjects and versions.
fn told(deliveries: &[Delivery]) -> Vec<(String, u64)> {
    let version = |data: &str| serde_json::from_str::<Value>(data).unwrap()["version"].as_u64().unwrap();
    deliveries.iter().map(|delivery| (delivery.subject.clone(), version(&delivery.data))).collect()
}

fn of<const N: usize>(expected: [(&str, u64); N]) -> Vec<(String, u64)> {
    expected.into_iter().map(|(subject, version)| (subject.to_owned(), version)).collect()
}

fn state_told_twice_or_not_at_all(database: &Database) {
    let caller = database.open();
    open(&caller);
    tell(&caller, [note("a", Step::Ends, 2), note("b", Step::Begins, 3)]);
    tell(&caller, [note("a", Step::Begins, 4), note("b", Step::Begins, 5)]);
    tell(&caller, [note("a", Step::Ends, 6), note("b", Step::Begins, 0)]);
    tell(&caller, [note("a", Step::Ends, 7), Note { delivery: None, ..note("c", Step::Begins, 1) }]);
    tell(&caller, [note("c", Step::Ends, 2), Note { hook: key("other"), ..note("d", Step::Begins, 1) }]);
    let taken = take(&caller);
    assert_eq!(told(&taken), of([("b", 3), ("a", 4), ("a", 6), ("c", 2)]));
    assert_eq!(taken[1].event, HookEvent::MemberOnline);
    assert_eq!((taken[2].event, taken[2].at, taken[2].tries), (HookEvent::MemberOffline, AT, 0));
}

/// A backend that has just begun stores comments before it says which hooks it has.
fn comment_before_hooks_are_known_untold(database: &Database) {
    let caller = database.open();
    caller.run(comment("early", &["h"]));
    tell(&caller, [note("presence:a", Step::Begins, 1)]);
    tell(&caller, [Note { hook: key("gone"), ..note("a", Step::Begins, 1) }]);
    open(&caller);
    // A hook that is no more has no states; what waits for it is given up in time.
    let subjects: Vec<String> = take(&caller).into_iter().map(|delivery| delivery.subject).collect();
    assert_eq!(subjects, ["live:7%2F8", "presence:a"]);
    assert_eq!((database.rows("hook_deliveries"), database.rows("hook_states")), (3, 1));
}

fn now_ms() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is later").as_millis() as u64
}

fn older_news_taken_for_newer(database: &Database) {
    let caller = database.open();
    open(&caller);
    tell(&caller, [note("a", Step::Begins, 5)]);
    tell(&caller, [note("a", Step::Ends, 4)]);
    tell(&caller, [note("a", Step::Begins, 8)]);
    tell(&caller, [note("a", Step::Ends, 7)]);
    assert_eq!(told(&take(&caller)), of([("a", 5)]));
    tell(&caller, [note("a", Step::Ends, 8)]);
    assert_eq!(told(&take(&caller)), [], "what is before it is on its way");
    assert_eq!(database.rows("hook_deliveries"), 2);
}

fn limit_told_too_often(database: &Database) {
    let caller = database.open();
    open(&caller);
    for version in [1_000, 1_500, 1_999, 2_000, 2_999, 3_000] {
        tell(&caller, [note("limit:x", Step::Repeats(1_000), version)]);
    }
    assert_eq!(told(&take(&caller)), of([("limit:x", 1_000), ("limit:x", 2_000), ("limit:x", 3_000)]));
}

fn deliveries_behind_one_that_failed_taken(database: &Database) {
    let caller = database.open();
    open(&caller);
    let alternate = |from: u64, subject: &str| {
        for version in from..from + 4 {
            tell(&caller, [note(subject, if version % 2 == 0 { Step::Begins } else { Step::Ends }, version)]);
        }
    };
    alternate(0, "a");
    alternate(0, "b");
    let taken = take_for(&caller, CLAIM_MS, 6);
    assert_eq!(told(&taken), of([("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1)]));
    assert_eq!(take(&caller), [], "the rest of b is behind what is on its way");
    // Of a the second failed, and what is behind it waits as long; of b all is there.
    let numbers: Vec<i64> = taken.iter().map(|delivery| delivery.number).collect();
    let done = [numbers[0], numbers[4], numbers[5]].map(|number| (number, Settling::Done));
    settle(&caller, done.into_iter().chain([(numbers[1], Settling::Later(CLAIM_MS))]));
    alternate(4, "a");
    assert_eq!(told(&take(&caller)), of([("b", 2), ("b", 3)]));
    // At last its time has come, of those that were taken with it, too: what never was follows once they are done.
    settle(&caller, [(numbers[1], Settling::Later(0))]);
    let versions = |from: u64, to: u64| (from..to).map(|version| ("a".to_owned(), version)).collect::<Vec<_>>();
    let taken = take(&caller);
    assert_eq!(told(&taken), versions(1, 4));
    assert_eq!(taken.iter().map(|delivery| delivery.tries).collect::<Vec<_>>(), [2, 0, 0]);
    // What was not tried is there at once, before all behind it.
    settle(&caller, taken.iter().map(|delivery| (delivery.number, Settling::Untried)));
    assert_eq!(take(&caller), taken);
    settle(&caller, taken.iter().map(|delivery| (delivery.number, Settling::Done)));
    assert_eq!(told(&take(&caller)), versions(4, 8));
}

/// However much waits of a subject, one that fails costs no more than what was taken with it.
fn all_that_waits_written_anew_for_one_that_failed(database: &Database) {
    let caller = database.open();
    open(&caller);
    let alternating = |version| note("a", if version % 2 == 0 { Step::Begins } else { Step::Ends }, version);
    tell(&caller, (0..500).map(alternating));
    let taken = take_for(&caller, CLAIM_MS, 10);
    settle(&caller, taken.iter().take(1).map(|delivery| (delivery.number, Settling::Later(CLAIM_MS))));
    assert_eq!(database.rows("hook_deliveries WHERE next_try > 0"), 10);
    assert_eq!(take(&caller), [], "the rest is behind those");
}

fn delivery_of_a_dead_backend_lost(database: &Database) {
    let dead = database.open();
    open(&dead);
    tell(&dead, [note("a", Step::Begins, 1)]);
    let taken = take_for(&dead, 50, 100);
    drop(dead);
    let caller = database.open();
    let again = eventually("its claim to end", || {
        let taken = take(&caller);
        if taken.is_empty() { Err("nothing is due") } else { Ok(taken) }
    });
    assert_eq!(again, taken, "under the same id and number");
    // The dead one was only slow, and says what became of it.
    settle(&caller, [(again[0].number, Settling::Done)]);
    settle(&caller, [(again[0].number, Settling::Later(0)), (again[0].number, Settling::Untried)]);
    assert_eq!(database.rows("hook_deliveries"), 0);
}

fn delivery_given_to_two_backends(database: &Database) {
    let callers: Vec<Caller> = (0..3).map(|_| database.open()).collect();
    open(&callers[0]);
    for number in 0..60u64 {
        let subject = format!("s{}", number % 7);
        let step = if number / 7 % 2 == 0 { Step::Begins } else { Step::Ends };
        tell(&callers[number as usize % 3], [note(&subject, step, number)]);
    }
    let takes: Vec<_> = std::thread::scope(|scope| {
        let take = |caller| scope.spawn(move || (0..20).map(|_| take_for(caller, CLAIM_MS, 5)).collect::<Vec<_>>());
        let takes: Vec<_> = callers.iter().map(take).collect();
        takes.into_iter().flat_map(|taken| taken.join().unwrap()).collect()
    });
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbers: Vec<i64> = Vec::new();
    for (take, deliveries) in takes.iter().enumerate() {
        numbers.extend(deliveries.iter().map(|delivery| delivery.number));
        for delivery in deliveries {
            assert_eq!(*owners.entry(&delivery.subject).or_insert(take), take, "{} at two places", delivery.subject);
        }
    }
    let taken = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.len() == taken && owners.len() == 7, "{taken} taken, {} of them once", numbers.len());
}

fn sequence_with_holes(database: &Database) {
    let caller = database.open();
    open(&caller);
    let mut seen = Vec::new();
    for round in 0..5u64 {
        tell(&caller, (0..4).map(|subject| note(&format!("s{subject}-{round}"), Step::Begins, 1)));
        let taken = take_for(&caller, CLAIM_MS, 3);
        seen.extend(taken.iter().map(|delivery| delivery.sequence));
        // Some go at once, one is taken again later.
        settle(&caller, taken.iter().skip(1).map(|delivery| (delivery.number, Settling::Done)));
        settle(&caller, taken.iter().take(1).map(|delivery| (delivery.number, Settling::Untried)));
    }
    seen.extend(take(&caller).iter().map(|delivery| delivery.sequence));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (1..=20).collect::<Vec<u64>>());
}

fn comment(text: &str, hooks: &[&str]) -> Command {
    let (place, member, text) = ("7/8".to_owned(), "ana".to_owned(), text.to_owned());
    let hooks = hooks.iter().map(|hook| key(hook)).collect();
    Command::Post { kind: PostKind::Comment, place, member, text, standing: Standing::Guest, at: AT, hooks }
}

fn comment_and_its_delivery_apart(database: &Database) {
    let caller = database.open();
    open(&caller);
    let answers = caller.ask_all(["one", "two 💙"].map(|text| comment(text, &["h", "other"])));
    let ids: Vec<String> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(Outcome::Posted { id, .. }) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    caller.run(comment("for nobody", &[]));
    let taken = take(&caller);
    let data: Vec<Value> = taken.iter().map(|delivery| serde_json::from_str(&delivery.data).unwrap()).collect();
    let expected =
        |at: usize, text| json!({"video": "7/8", "id": ids[at], "member": "ana", "text": text, "deleted": false});
    assert_eq!(data, [expected(0, "one"), expected(1, "two 💙")]);
    assert!(
        taken.iter().all(|delivery| delivery.event == HookEvent::CommentPosted && delivery.subject == "live:7%2F8")
    );
    assert!(taken[0].id != taken[1].id && taken[0].id.ends_with(ids[0].split_once('-').unwrap().1), "{taken:?}");
}

fn text_of_a_deleted_comment_delivered(database: &Database) {
    let caller = database.open();
    open(&caller);
    let Outcome::Posted { id, .. } = caller.run(comment("regretted", &["h"])) else { panic!("it is posted") };
    let delete = Command::DeletePost { kind: PostKind::Comment, place: "7/8".into(), id, by: None, at: AT };
    assert_eq!(caller.run(delete), Outcome::Deletion(Deletion::Deleted));
    let taken = take(&caller);
    let data: Value = serde_json::from_str(&taken[0].data).unwrap();
    assert_eq!((&data["text"], &data["deleted"]), (&Value::Null, &json!(true)));
}

fn ended_hook_goes_on(database: &Database) {
    let caller = database.open();
    open(&caller);
    tell(&caller, [note("a", Step::Begins, 1), Note { hook: key("other"), ..note("a", Step::Begins, 1) }]);
    run(&caller, HookCommand::Settle { hook: key("h"), settled: Vec::new(), ends: true });
    tell(&caller, [note("b", Step::Begins, 1)]);
    caller.run(comment("x", &["h"]));
    let ask = HookAsk { hook: key("h"), claim_ms: CLAIM_MS, limit: 9, look: true };
    let ended = HookOutcome::Taken { deliveries: Vec::new(), look: Some(HookLook::default()), ended: true };
    assert_eq!(run(&caller, HookCommand::Take(ask)), ended);
    assert_eq!(database.rows("hook_deliveries"), 1, "that of the other hook");
    // A backend begins anew, and so does the hook.
    open(&caller);
    tell(&caller, [note("a", Step::Begins, 2)]);
    assert_eq!(told(&take(&caller)), of([("a", 2)]));
    let look = || {
        let ask = HookAsk { hook: key("h"), claim_ms: CLAIM_MS, limit: 9, look: true };
        match run(&caller, HookCommand::Take(ask)) {
            HookOutcome::Taken { look: Some(look), .. } => look,
            other => panic!("{other:?}"),
        }
    };
    let found = look();
    assert_eq!((found.waiting, found.expired), (1, 0));
    assert!(found.oldest.is_some_and(|at| now_ms().abs_diff(at) < 3_600_000), "{found:?}");
    // Days go by.
    database.change("UPDATE hook_deliveries SET stored_at = stored_at - 300000000");
    assert_eq!(look(), HookLook { expired: 1, ..HookLook::default() });
}

fn states_listed_wrong(database: &Database) {
    let caller = database.open();
    open(&caller);
    tell(&caller, ["presence:b", "live:9", "presence:a"].map(|subject| note(subject, Step::Begins, 7)));
    tell(&caller, [note("limit:x", Step::Repeats(1), 7), note("live:8", Step::Begins, 7)]);
    tell(&caller, [note("live:8", Step::Ends, 7)]);
    let list =
        |after: &str, limit| run(&caller, HookCommand::States { hook: key("h"), after: after.to_owned(), limit });
    assert_eq!(list("", 9), HookOutcome::States(of([("live:9", 7), ("presence:a", 7), ("presence:b", 7)])));
    assert_eq!(list("live:9", 1), HookOutcome::States(of([("presence:a", 7)])));
    assert_eq!(list("presence:b", 1), HookOutcome::States(Vec::new()));
}
