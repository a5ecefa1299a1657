//! A journey as lines of text: what follows stands below, and where the way forks each branch is set off.

use std::fmt::Write as _;

use super::cluster::Cluster;
use super::journey::{Signed, Step, Tree, total};
use crate::wire::connection_id::NodeId;

/// Draws a tree. A `?` marks a figure that is no larger than its error.
pub fn tree(tree: &Tree, cluster: &Cluster) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:>11}  {:>11}  ± clocks", "since sent", "took");
    below(&mut text, tree, 0, ("", ""), None, cluster);
    text
}

fn below(
    text: &mut String,
    tree: &Tree,
    since_us: i64,
    (first, rest): (&str, &str),
    before: Option<Option<NodeId>>,
    cluster: &Cluster,
) {
    let Tree { step, branches } = tree;
    let since_us = since_us + step.leg.map_or(0, |leg| leg.us);
    let (took, error) = step.leg.map_or_else(Default::default, figures);
    let since = ms(since_us.max(0));
    let place = if before == Some(step.node) { String::new() } else { place(step, cluster) };
    let shard = step.shard.map_or_else(String::new, |shard| format!(", shard {shard}"));
    let line = format!("{since:>11}  {took:>11}  {error:<12} {first}{}{shard}{place}", step.name);
    let _ = writeln!(text, "{}", line.trim_end());
    if let [only] = branches.as_slice() {
        return below(text, only, since_us, (rest, rest), Some(step.node), cluster);
    }
    for (at, branch) in branches.iter().enumerate() {
        let (first, more) = if at + 1 < branches.len() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
        let (first, more) = (format!("{rest}{first}"), format!("{rest}{more}"));
        below(text, branch, since_us, (&first, &more), Some(step.node), cluster);
    }
}

/// How long a way took, and how wrong that may be.
fn figures(leg: Signed) -> (String, String) {
    let leg = leg.shown();
    let error = match leg.error_us {
        Some(0) => String::new(),
        Some(error_us) => format!("± {}{}", ms(error_us as i64), if leg.is_sure() { "" } else { " ?" }),
        None => "± unknown ?".to_owned(),
    };
    (format!("+{}", ms(leg.us as i64)), error)
}

fn place(step: &Step, cluster: &Cluster) -> String {
    let Some(node) = step.node else { return "  (this command)".to_owned() };
    match cluster.node(node) {
        Some(known) => format!("  ({} {node} in {})", known.roles.join("+"), known.dc),
        None => format!("  (node {node})"),
    }
}

fn ms(us: i64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

/// What a stream of this command's own says of the whole.
pub fn end(url: &str, took_us: u64, way: Option<&[Step]>) -> String {
    let took = ms(took_us as i64);
    match way.map(total) {
        Some(Signed { us, error_us }) => {
            let error = error_us.map_or("unknown".to_owned(), |error_us| ms(error_us as i64));
            format!("Back on {url} after {took}; its hops add up to {} ± {error}.\n", ms(us.max(0)))
        }
        None => format!("Back on {url} after {took}; nobody kept its journey there.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::journey::{self, tests::row};
    use super::*;

    #[test]
    fn a_way_that_forks() {
        let to = |node: u64, at, error| {
            row(
                node,
                1,
                &[
                    ("read", 1, 1_000, None),
                    ("sent", 1, 1_250, None),
                    ("taken", node, at, Some((0, error))),
                    ("first_write", node, at + 40, None),
                    ("last_write", node, at + 45, None),
                ],
            )
        };
        let ways = [to(2, 2_000, 30), to(3, 1_300, 90)].map(|row| journey::way(&row, 700, &Cluster::default()));
        let back = journey::back(&ways[0], 2_500, &Cluster::default());
        let text = tree(&Tree::of([&back, &ways[0], &ways[1]]), &Cluster::default());
        let (one, two, three) = (NodeId(1), NodeId(2), NodeId(3));
        let expected = [
            " since sent         took  ± clocks".to_owned(),
            "   0.000 ms                            sent  (this command)".to_owned(),
            format!("   0.300 ms    +0.300 ms  ± unknown ?  read  (node {one})"),
            "   0.550 ms    +0.250 ms               sent".to_owned(),
            format!("   1.300 ms    +0.750 ms  ± 0.030 ms   ├─ taken  (node {two})"),
            "   1.340 ms    +0.040 ms               │  first_write, shard 1".to_owned(),
            "   1.800 ms    +0.460 ms  ± unknown ?  │  ├─ received  (this command)".to_owned(),
            "   1.345 ms    +0.005 ms               │  └─ last_write, shard 1".to_owned(),
            format!("   0.600 ms    +0.050 ms  ± 0.090 ms ? └─ taken  (node {three})"),
            "   0.640 ms    +0.040 ms                  first_write, shard 1".to_owned(),
            "   0.645 ms    +0.005 ms                  last_write, shard 1".to_owned(),
        ];
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), expected, "\n{text}");
        assert!(end("U", 1_800, Some(&back)).contains("after 1.800 ms; its hops add up to 1.800 ms ± unknown"));
    }
}
