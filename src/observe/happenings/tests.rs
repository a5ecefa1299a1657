use super::*;
use std::collections::BTreeSet;

fn shards(count: u64) -> Vec<Counters> {
    let shards: Vec<Counters> = (0..count).map(|_| Counters::default()).collect();
    shards.iter().zip(0..).for_each(|(counters, shard)| counters.shard.set(shard));
    shards
}

fn found(shards: &[Counters], from: Level, limit: usize) -> Vec<(u64, u16, &'static str, String)> {
    let own = newest(shards, from, usize::MAX).into_iter().filter(|found| found.what != "process");
    own.take(limit).map(|found| (found.at, found.shard, found.what, found.detail)).collect()
}

#[test]
fn the_newest_of_all_shards_come_first_and_warnings_outlive_the_rest() {
    let shards = shards(2);
    for at in 0..2 * HAPPENINGS_KEPT as u64 {
        let counters = &shards[at as usize % 2];
        // A window apart, so that none is too many.
        counters.now_ms.set(HAPPENINGS_WINDOW_MS * at);
        counters.happened(What::Resumed, 1, Subject::default());
        if at < 3 {
            counters.happened(
                What::Gap,
                2,
                Subject { says: Some(format_args!("number {at}")), ..Subject::topic("live:1") },
            );
        }
    }
    let all = found(&shards, Level::Info, 3);
    let last = 2 * HAPPENINGS_KEPT as u64 - 1;
    let expected = [0, 1, 2]
        .map(|back| (HAPPENINGS_WINDOW_MS * (last - back), ((last - back) % 2) as u16, "resumed", String::new()));
    assert_eq!(all, expected);
    let warnings = found(&shards, Level::Warn, 9);
    let texts: Vec<&str> = warnings.iter().map(|(.., detail)| detail.as_str()).collect();
    assert_eq!(texts, [2, 1, 0].map(|at| format!("topic=live:1 times=2 number {at}")));
    assert_eq!((shards[0].gaps.get(), shards[1].gaps.get()), (4, 2), "they are counted, too");
    assert_eq!(shards[1].resumed.get(), HAPPENINGS_KEPT as u64);
}

#[test]
fn a_flood_is_summed_up() {
    let shards = shards(1);
    let counters = &shards[0];
    counters.now_ms.set(50_000);
    (0..100).for_each(|_| counters.happened(What::Merged, 1, Subject::default()));
    counters.happened(What::Gap, 0, Subject::default());
    counters.settle_happenings();
    assert_eq!(found(&shards, Level::Info, 99).len(), HAPPENINGS_EACH as usize);
    counters.now_ms.set(60_000);
    counters.settle_happenings();
    counters.settle_happenings();
    let all = found(&shards, Level::Info, 99);
    assert_eq!(all.len(), HAPPENINGS_EACH as usize + 1, "once");
    assert_eq!(all[0], (60_000, 0, "merged", format!("{} times more in the 10 s before", 100 - HAPPENINGS_EACH)));
    assert_eq!((counters.merged.get(), counters.gaps.get()), (100, 0));
}

#[test]
fn each_kind_has_one_word_and_is_explained() {
    let words: BTreeSet<&str> = What::ALL.iter().map(|what| what.word()).collect();
    assert_eq!(words.len(), What::ALL.len());
    let text = include_str!("../../../docs/reasons.md");
    let mut explained = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        match cells[..] {
            // Of what is counted by a reason it is the metric's word and the reason.
            // Spans are lost by the hundred; a line of the log says so.
            ["fanfare_spans_lost_total", ..] => continue,
            [metric, reason, _, _] => {
                let noun = metric.trim_start_matches("fanfare_").trim_end_matches("_total").trim_end_matches('s');
                explained.insert(format!("{noun}_{reason}"))
            }
            [what, level, _] => {
                let level = level.to_owned();
                let is_so = What::ALL
                    .iter()
                    .any(|known| known.word() == what && (level == known.level().name() || level == "its line's"));
                assert!(is_so, "{line}");
                explained.insert(what.to_owned())
            }
            _ => panic!("{line}"),
        };
    }
    // These are as they should be, and many.
    for not_recorded in ["disconnect_client", "disconnect_polled"] {
        assert!(explained.remove(not_recorded), "{not_recorded}");
    }
    assert_eq!(explained.iter().map(String::as_str).collect::<BTreeSet<_>>(), words);
}

#[test]
fn a_line_of_the_log_is_about_what_its_module_is() {
    for (module, what) in [
        ("fanfare::db::health", "database"),
        ("fanfare::kv::redis::topology", "kv"),
        ("fanfare::ground::links", "cluster"),
        ("fanfare::ground::asking", "kv"),
        ("fanfare::ground::admitting", "listener"),
        ("fanfare::dbx", "process"),
        ("glommio", "process"),
    ] {
        assert_eq!(What::of_module(module).word(), what, "{module}");
    }
}
