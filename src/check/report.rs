//! What was found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::capacity::Capacity;
use super::items::{Item, Status};
use crate::figures::grouped;

/// Everything that a check says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The role that was asked about.
    pub role: String,
    /// Processes of it on this box.
    pub processes: u64,
    /// The processors of its shards.
    pub cores: Vec<usize>,
    /// Advice is for so many connections.
    pub expected: u64,
    /// The public listener.
    pub listen: String,
    /// `ok`, `advice` or `blocked`: the worst of all items.
    pub verdict: Status,
    /// Each thing that was looked at.
    pub items: Vec<Item>,
    /// How many connections this box allows.
    pub connections: Capacity,
}

impl Report {
    /// Whether the role runs here, and as many connections as wanted fit.
    pub fn passes(&self) -> bool {
        self.verdict != Status::Blocked && self.connections.fits != Some(false)
    }

    /// The worst of all items; what is absent or unknown is no reason to worry.
    pub fn worst(items: &[Item]) -> Status {
        let any = |wanted| items.iter().any(|item| item.status == wanted);
        match (any(Status::Blocked), any(Status::Advice)) {
            (true, _) => Status::Blocked,
            (_, true) => Status::Advice,
            _ => Status::Ok,
        }
    }

    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it has no maps and no floats")
    }

    /// A table.
    pub fn to_table(&self, colour: bool) -> String {
        let mut out = String::new();
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        let processes = if self.processes == 1 { String::new() } else { format!(", {} processes", self.processes) };
        line(
            &mut out,
            format!(
                "fanfare {}{processes}: shards on cores {}, public listener {}; advice is for {} connections (--connections)\n",
                self.role,
                cores.join(","),
                self.listen,
                grouped(self.expected),
            ),
        );
        let width =
            |text: fn(&Item) -> &str| self.items.iter().map(|item| text(item).chars().count()).max().unwrap_or(0);
        let (name, found) = (width(|item| &item.item), width(|item| &item.found).min(FOUND_WIDTH));
        for item in &self.items {
            let status = paint(item.status, colour);
            line(&mut out, format!("  {status} {:name$}  {:found$}  {}", item.item, item.found, item.wanted));
            if matches!(item.status, Status::Advice | Status::Blocked) {
                line(&mut out, format!("          costs  {}", item.cost));
                line(&mut out, format!("          do     {}", item.remedy));
            }
        }
        out.push('\n');
        self.capacity(&mut out);
        out
    }

    fn capacity(&self, out: &mut String) {
        let capacity = &self.connections;
        match (capacity.allowed, &capacity.limited_by) {
            (Some(allowed), Some(item)) => {
                line(
                    out,
                    format!(
                        "Connections that this box allows beyond what runs now: {}, limited by {item}.",
                        grouped(allowed)
                    ),
                );
            }
            _ => line(out, "How many connections this box allows cannot be seen from here.".to_owned()),
        }
        let name = capacity.bounds.iter().map(|bound| bound.item.len()).max().unwrap_or(0);
        for bound in &capacity.bounds {
            line(out, format!("  {:name$}  {:>13}  {}", bound.item, grouped(bound.allows), bound.because));
        }
        if let (Some(wanted), Some(fits)) = (capacity.wanted, capacity.fits) {
            let wanted = grouped(wanted);
            let verdict = if fits { "fit" } else { "do not fit" };
            line(out, format!("{wanted} connections {verdict}."));
        }
    }
}

/// What was found is cut off no earlier; longer texts push the last column out of line.
const FOUND_WIDTH: usize = 40;

fn line(out: &mut String, text: String) {
    writeln!(out, "{}", text.trim_end()).expect("a String takes all");
}

/// The status as a word of eight columns.
fn paint(status: Status, colour: bool) -> String {
    let (word, code) = match status {
        Status::Ok => ("ok", "32"),
        Status::Advice => ("advice", "33"),
        Status::Blocked => ("blocked", "1;31"),
        Status::Unknown => ("unknown", "36"),
        Status::Absent => ("absent", "2"),
    };
    if colour { format!("\x1b[{code}m{word:7}\x1b[0m") } else { format!("{word:7}") }
}
