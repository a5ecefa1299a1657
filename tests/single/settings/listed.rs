//! Every setting is in every place where one is told of or taken: all follow from the listing in `src/settings/listing.rs`.

use super::place::Place;
use fanfare::settings::{LISTING, Setting};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What stands between these lines of a document is written by [`holds`].
const BEGIN: &str = "From the listing in src/settings/listing.rs";
const END: &str = "The end of what is from the listing";

/// Holds the part of a document that is from the listing against `wanted`, or writes it.
fn holds(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&file).unwrap();
    let begin = text.find(BEGIN).and_then(|at| Some(at + text[at..].find('\n')? + 1)).expect(BEGIN);
    let end = text.find(END).and_then(|at| text[..at].rfind('\n')).expect(END) + 1;
    if std::env::var_os("FANFARE_GENERATE").is_some() {
        fs::write(&file, [&text[..begin], wanted, &text[end..]].concat()).unwrap();
        return;
    }
    let stands = &text[begin..end];
    let missing: Vec<&str> = wanted.lines().filter(|line| !stands.lines().any(|other| other == *line)).collect();
    assert!(
        stands == wanted,
        "{path} is not what the listing says, which has {missing:#?}; write it anew by\n\
         FANFARE_GENERATE=1 cargo nextest run --test single settings::listed"
    );
}

fn headings() -> Vec<(&'static str, Vec<&'static Setting>)> {
    let mut headings: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in LISTING {
        match headings.last_mut().filter(|(heading, _)| *heading == setting.heading) {
            Some((_, settings)) => settings.push(setting),
            None => headings.push((setting.heading, vec![setting])),
        }
    }
    headings
}

#[test]
fn the_tables_of_the_documents_are_those_of_the_listing() {
    let mut page = String::new();
    for (heading, settings) in headings() {
        write!(page, "\n## {heading}\n\n| setting | default | reload | meaning |\n|---|---|---|---|\n").unwrap();
        for setting in settings {
            let (shown, value) = (setting.default_in_words(), setting.value.replace('|', "\\|"));
            let default = if shown == setting.default { format!("`{shown}`") } else { shown.to_owned() };
            let reload = if setting.live { "at once" } else { "" };
            writeln!(page, "| `{} {value}` | {default} | {reload} | {} |", setting.flag(), setting.text()).unwrap();
        }
    }
    page.push('\n');
    holds("docs/settings.md", &page);
}

/// Lines of comment, no longer than a screen is wide.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > 120 {
            writeln!(lines, "{line}").unwrap();
            line = "#".to_owned();
        }
        write!(line, " {word}").unwrap();
    }
    lines + &line
}

/// With links as words, and the pages that they lead to.
fn unlinked(text: &str) -> String {
    let Some(middle) = text.find("](") else { return text.to_owned() };
    let begin = text[..middle].rfind('[').expect("a link begins");
    let (page, rest) = text[middle + 2..].split_once(')').expect("a link ends");
    format!("{}{} (docs/{page}){}", &text[..begin], &text[begin + 1..middle], unlinked(rest))
}

#[test]
fn the_example_of_a_file_is_that_of_the_listing() {
    let mut file = String::new();
    for (heading, settings) in headings() {
        writeln!(file, "\n# ---- {heading} {}", "-".repeat(90 - heading.len())).unwrap();
        for setting in settings {
            let reload = if setting.live { " (Holds at once.)" } else { "" };
            let text = comment(&(unlinked(&setting.text()) + reload));
            writeln!(file, "\n{text}\n#{}", setting.to_toml()).unwrap();
        }
    }
    file.push('\n');
    holds("tuning/fanfare.toml", &file);
}

/// Examples that go together on one box.
fn values() -> impl Iterator<Item = (&'static Setting, String)> {
    // Keys come from a file or from an issuer.
    LISTING.iter().filter(|setting| setting.name != "jwt_key_url").map(|setting| {
        let value = match (setting.name, setting.example()) {
            // A file has no password.
            ("db", _) => "postgres://fanfare@127.0.0.1/fanfare".to_owned(),
            // Peers must be told this data center's own name.
            ("dc", _) => "here".to_owned(),
            // It signs.
            ("authorize_secret_file", _) => "signing".to_owned(),
            (_, example) => match example.split_once("/etc/fanfare/") {
                Some((before, _)) => format!("{before}secret"),
                None => example.to_owned(),
            },
        };
        (setting, value)
    })
}

#[track_caller]
fn all_come_from(printed: &str, origin: impl Fn(&Setting) -> String) {
    for (setting, _) in values() {
        let begins = |line: &str| line.strip_prefix(setting.name).is_some_and(|rest| rest.starts_with([' ', '.']));
        let line =
            printed.lines().find(|line| begins(line)).unwrap_or_else(|| panic!("no {}: {printed}", setting.name));
        assert!(line.ends_with(&format!("  # {}", origin(setting))), "{line}");
    }
}

#[test]
fn each_is_taken_from_the_environment_and_from_a_flag() {
    let here = Place::new();
    let variables: Vec<(String, String)> = values().map(|(setting, value)| (setting.variable(), value)).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
    all_come_from(&here.print("", &variables).0, |setting| format!("environment {}", setting.variable()));
    let flags: Vec<String> = values().map(|(setting, value)| format!("{}={value}", setting.flag())).collect();
    all_come_from(&here.print(&flags.join(" "), &variables).0, |setting| format!("flag {}", setting.flag()));
}

#[test]
fn each_is_printed_and_told_of_by_the_help() {
    let here = Place::new();
    let (printed, _) = here.print("", &[]);
    let help = String::from_utf8(here.run("--help", &[]).stdout).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = words(&help);
    for setting in LISTING {
        let (set, unset) = (format!("{} = ", setting.name), format!("# {} is not set", setting.name));
        assert!(printed.lines().any(|line| line.starts_with(&set) || line == unset), "{}: {printed}", setting.name);
        let told = setting.text();
        let first = told.split_once(". ").map_or(&*told, |(first, _)| first).trim_end_matches('.');
        assert!(help.contains(first), "{first:?} is not in {help}");
    }
}
