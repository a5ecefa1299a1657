//! The report: rows that a person reads as a table and a machine as JSON, from one list.
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::chart::{Line, Over};
use super::load::Posted;
use super::page::{self, Run};
use super::server::Usage;
use crate::client::fleet::measured::{Measured, Status};
use crate::figures::grouped;

/// What a run found out.
#[derive(Debug)]
pub struct Report {
    scenario: &'static str,
    rows: Vec<(String, Value, String)>,
    /// What was wrong; the run failed if there is anything.
    problems: Vec<String>,
    notes: Vec<String>,
    /// What a page draws.
    pub lines: Vec<Line>,
}

impl Report {
    /// A report without rows.
    pub fn new(scenario: &'static str) -> Self {
        Self { scenario, rows: Vec::new(), problems: Vec::new(), notes: Vec::new(), lines: Vec::new() }
    }

    /// Adds a whole number.
    pub fn count(&mut self, name: &str, value: u64) {
        self.rows.push((name.to_owned(), json!(value), grouped(value)));
    }

    /// Adds a number with its unit, which becomes part of the name in JSON.
    pub fn number(&mut self, name: &str, unit: &str, value: f64) {
        let rounded = (value * 1000.0).round() / 1000.0;
        let human = if value.abs() >= 1000.0 { grouped(value.round() as u64) } else { format!("{rounded}") };
        let name = if unit.is_empty() { name.to_owned() } else { format!("{name} {unit}") };
        self.rows.push((name, json!(rounded), human));
    }

    /// Adds the percentiles of a histogram in µs.
    pub fn latency(&mut self, name: &str, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        for (label, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)] {
            let value = histogram.value_at_quantile(quantile) as f64 / 1000.0;
            self.number(&format!("{name} {label}"), "ms", value);
        }
        self.number(&format!("{name} max"), "ms", histogram.max() as f64 / 1000.0);
        // Half of what is left at each step, up to where a single event decides.
        let shares = (0..20).map(|halvings| 1.0 - 0.5f64.powi(halvings));
        let shares = shares.take_while(|share| (1.0 - share) * histogram.len() as f64 >= 1.0);
        let points = shares.map(|share| (share, histogram.value_at_quantile(share) as f64 / 1000.0)).collect();
        self.lines.push(Line { name: name.to_owned(), unit: "ms".to_owned(), over: Over::Percentiles, points });
    }

    /// Says what made the run fail.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Says what a reader should know.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Adds the connections' state, and a problem if not all were opened and kept.
    pub fn connections(&mut self, wanted: u64, status: &Status, measured: &Measured) {
        let errors = measured.told_errors();
        self.count("connections", status.ready);
        if status.failed > 0 || status.closed > 0 || status.ready < wanted {
            self.problem(format!(
                "of {wanted} connections {} could not be opened and {} broke: {}",
                status.failed,
                status.closed,
                errors.join("; ")
            ));
        } else {
            errors.into_iter().for_each(|error| self.note(error));
        }
    }

    /// Adds what became of the publishes.
    pub fn posted(&mut self, posted: &Posted) {
        self.count("published events", posted.accepted);
        self.latency("publish", &posted.latency);
        self.number("publisher behind max", "ms", posted.behind_us_max as f64 / 1000.0);
        if posted.failed > 0 {
            self.problem(format!("{} events were not taken: {}", posted.failed, posted.errors.join("; ")));
        }
    }

    /// Adds the server's CPU time, a unit of work.
    pub fn cpu(&mut self, what: &str, units: u64, before: &Usage, after: &Usage) {
        if after.rss_bytes == 0 || units == 0 {
            return;
        }
        let user = (after.user_us - before.user_us.min(after.user_us)) as f64;
        let system = (after.system_us - before.system_us.min(after.system_us)) as f64;
        self.number(&format!("server CPU a {what}"), "us", (user + system) / units as f64);
        self.number(&format!("server CPU user a {what}"), "us", user / units as f64);
        self.number("server RSS", "MB", after.rss_bytes as f64 / 1e6);
    }

    /// Whether nothing was wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds it to a page.
    ///
    /// # Errors
    /// When the page cannot be read or written.
    pub fn add_to(self, path: &Path, label: Option<&str>) -> io::Result<()> {
        let rows = self.rows.into_iter().map(|(name, _, human)| (name, human)).collect();
        let Self { problems, notes, lines, .. } = self;
        let scenario = self.scenario.to_owned();
        page::add(path, Run { scenario, rows, problems, notes, lines, ..Run::now(label) })
    }

    /// All of it as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("scenario".to_owned(), json!(self.scenario));
        object.insert("ok".to_owned(), json!(self.is_good()));
        for (name, value, _) in &self.rows {
            object.insert(name.replace("/s", "_per_second").replace([' ', '.'], "_").replace(',', ""), value.clone());
        }
        object.insert("problems".to_owned(), json!(self.problems));
        object.insert("notes".to_owned(), json!(self.notes));
        Value::Object(object)
    }

    /// All of it as a table.
    pub fn to_text(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let values = self.rows.iter().map(|(.., human)| human.len()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.scenario);
        for (name, _, human) in &self.rows {
            writeln!(text, "  {name:width$}  {human:>values$}").expect("a String takes every write");
        }
        for note in &self.notes {
            writeln!(text, "  note: {note}").expect("a String takes every write");
        }
        for problem in &self.problems {
            writeln!(text, "  FAILED: {problem}").expect("a String takes every write");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let mut report = Report::new("broadcast");
        report.count("events lost", 1_234_567);
        report.number("latency p99.9", "ms", 1.234_56);
        report.number("deliveries/s", "", 5.0);
        report.problem("1 lost".to_owned());
        let json = report.to_json();
        assert_eq!(json["events_lost"], 1_234_567);
        assert_eq!(json["latency_p99_9_ms"], 1.235);
        assert_eq!(json["deliveries_per_second"], 5.0);
        assert_eq!(json["ok"], false);
        let text = report.to_text();
        assert!(text.contains("1,234,567") && text.contains("1.235") && text.contains("FAILED: 1 lost"), "{text}");
        assert_eq!([grouped(0), grouped(999), grouped(1000)], ["0", "999", "1,000"]);
    }
}
