//! A run as a page: one file without any other, for light and dark. Runs that stand in it already stay, and are drawn in the
//! same pictures: the page is its own data, in a script that is none.
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;
use std::{env, fs, io};

use serde::{Deserialize, Serialize};

use super::chart::{Line, Over, class_of, draw, escape};

const DATA: &str = "<script type=\"application/json\" id=\"runs\">";
const DATA_END: &str = "</script>";
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>fanfare bench</title>\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><style>\n";
const STYLE: &str = include_str!("page.css");

/// A run, as the page keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub label: String,
    pub scenario: String,
    pub command: String,
    pub machine: String,
    /// In UTC.
    pub date: String,
    pub version: String,
    /// Names and values, as people read them.
    pub rows: Vec<(String, String)>,
    pub problems: Vec<String>,
    pub notes: Vec<String>,
    pub lines: Vec<Line>,
}

impl Run {
    /// A run that ends now, of this command on this machine.
    pub fn now(label: Option<&str>) -> Self {
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let version = format!("fanfare {}", env!("CARGO_PKG_VERSION"));
        Self {
            label: label.map_or_else(|| format!("{version}, {date}"), str::to_owned),
            scenario: String::new(),
            command: command(env::args()),
            machine: machine(),
            date,
            version,
            rows: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            lines: Vec::new(),
        }
    }
}

/// Adds a run to a page, which is made where there is none.
///
/// # Errors
/// When the file cannot be read or written, or is no such page.
pub fn add(path: &Path, run: Run) -> io::Result<()> {
    let mut runs = match fs::read_to_string(path) {
        Ok(page) if page.trim().is_empty() => Vec::new(),
        Ok(page) => runs_in(&page).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it is there, and no page of runs: name another file")
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    runs.push(run);
    fs::write(path, page(&runs))
}

fn runs_in(page: &str) -> Option<Vec<Run>> {
    let (_, data) = page.split_once(DATA)?;
    serde_json::from_str(data.split_once(DATA_END)?.0).ok()
}

/// The page of some runs: a section a scenario, in the order in which they came.
fn page(runs: &[Run]) -> String {
    let mut scenarios: Vec<&str> = Vec::new();
    for run in runs {
        if !scenarios.contains(&run.scenario.as_str()) {
            scenarios.push(&run.scenario);
        }
    }
    let mut html = format!("{HEAD}{STYLE}</style></head><body><main>\n<h1>fanfare bench</h1>\n");
    for scenario in scenarios {
        let these: Vec<_> = runs.iter().filter(|run| run.scenario == scenario).enumerate().collect();
        section(&mut html, scenario, &these).expect("a String takes every write");
    }
    // Neither HTML nor XML is to find a tag or an entity in it.
    let data = serde_json::to_string(runs).unwrap_or_default().replace('<', "\\u003c").replace('&', "\\u0026");
    html + &format!("{DATA}{data}{DATA_END}\n</main></body></html>\n")
}

fn section(html: &mut String, scenario: &str, runs: &[(usize, &Run)]) -> std::fmt::Result {
    writeln!(html, "<section><h2>{}</h2>\n<ul class=\"legend\">", escape(scenario))?;
    for (number, run) in runs {
        let mark =
            format!("<svg viewBox=\"0 0 28 8\"><polyline class=\"{}\" points=\"0,4 28,4\"/></svg>", class_of(*number));
        writeln!(html, "<li>{mark}{}</li>", escape(&run.label))?;
    }
    html.push_str("</ul>\n<div class=\"charts\">\n");
    let mut names: Vec<&Line> = Vec::new();
    for line in runs.iter().flat_map(|(_, run)| &run.lines) {
        if !names.iter().any(|known| known.name == line.name) {
            names.push(line);
        }
    }
    names.sort_by_key(|line| line.over != Over::Percentiles);
    for Line { name, unit, .. } in names {
        let all = runs.iter().flat_map(|(number, run)| run.lines.iter().map(move |line| (*number, line)));
        let drawn: Vec<(usize, &Line)> = all.filter(|(_, line)| line.name == *name).collect();
        let title = format!("{} <small>{}</small>", escape(name), escape(unit));
        writeln!(html, "<figure><figcaption>{title}</figcaption>{}</figure>", draw(&drawn))?;
    }
    html.push_str("</div>\n<div class=\"wide\"><table><thead><tr><th></th>");
    for (_, run) in runs {
        write!(html, "<th>{}</th>", escape(&run.label))?;
    }
    html.push_str("</tr></thead><tbody>\n");
    let mut rows: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|(_, run)| &run.rows) {
        if !rows.contains(&name.as_str()) {
            rows.push(name);
        }
    }
    for row in rows {
        write!(html, "<tr><th>{}</th>", escape(row))?;
        for (_, run) in runs {
            let value = run.rows.iter().find(|(name, _)| name == row).map_or("", |(_, value)| value);
            write!(html, "<td>{}</td>", escape(value))?;
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    for (_, run) in runs {
        let from = [&run.command, &run.machine, &run.version, &run.date].map(|text| escape(text));
        let [command, machine, version, date] = from;
        writeln!(
            html,
            "<h3>{}</h3>\n<pre>{command}</pre>\n<p>{machine}; {version}; <time>{date}</time></p>",
            escape(&run.label)
        )?;
        let told = run.problems.iter().map(|text| ("problem", text)).chain(run.notes.iter().map(|text| ("note", text)));
        for (class, text) in told {
            writeln!(html, "<p class=\"{class}\">{}</p>", escape(text))?;
        }
    }
    html.push_str("</section>\n");
    Ok(())
}

/// The command as a shell would take it, without the token, which is no business of a page's readers.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = Vec::new();
    for argument in arguments {
        let secret = words.last().is_some_and(|last| last == "--token");
        let word = match argument.split_once('=') {
            _ if secret => "…".to_owned(),
            Some(("--token", _)) => "--token=…".to_owned(),
            _ => argument,
        };
        let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:=,@%+…".contains(letter);
        let plain = !word.is_empty() && word.chars().all(is_plain);
        words.push(if plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) });
    }
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    words.join(" ")
}

/// Processor, cores, memory and kernel, as far as they are told.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| env::consts::ARCH.to_owned());
    let cores = crate::client::fleet::processes::cores();
    let memory =
        field(&read("/proc/meminfo"), "MemTotal").and_then(|kb| kb.trim_end_matches(" kB").parse::<f64>().ok());
    let memory = memory.map_or_else(String::new, |kb| format!(", {:.1} GB of memory", kb * 1024.0 / 1e9));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} × {processor}{memory}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(label: &str, p99: &str) -> Run {
        let points = vec![(0.0, 1.0), (0.5, 2.5), (0.99, 71.5)];
        let curve = Line { name: "latency".to_owned(), unit: "ms".to_owned(), over: Over::Percentiles, points };
        Run {
            scenario: "broadcast".to_owned(),
            rows: vec![("latency p99 ms".to_owned(), p99.to_owned())],
            problems: vec!["3 lost & <gone>".to_owned()],
            lines: vec![curve, Line::over_time("Deliveries", "a second", vec![(0.25, 10.0), (0.5, 20.0)])],
            ..Run::now(Some(label))
        }
    }

    #[test]
    fn both_sides_of_a_comparison_stand_in_one_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        add(&path, run("</script>before & after", "71.5")).unwrap();
        add(&path, run("after", "64.25")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let page = roxmltree::Document::parse_with_options(&text, options).expect("it is well-formed");
        let of = |name: &str| page.descendants().filter(|node| node.has_tag_name(name)).collect::<Vec<_>>();
        assert_eq!(of("section").len(), 1);
        let figures = of("figure");
        assert_eq!(figures.len(), 2, "a curve, and deliveries over time");
        for figure in &figures {
            let lines: Vec<_> = figure.descendants().filter(|node| node.has_tag_name("polyline")).collect();
            assert_eq!(
                lines.iter().map(|line| line.attribute("class").unwrap()).collect::<Vec<_>>(),
                ["run c0", "run c1"]
            );
        }
        let said: Vec<_> = of("td").iter().map(|cell| cell.text().unwrap()).collect();
        assert_eq!(said, ["71.5", "64.25"]);
        assert!(text.contains("3 lost &amp; &lt;gone&gt;") && !text.contains("</script>before"));
        for asset in ["src=", "href=", "url(", "@import"] {
            assert!(!text.contains(asset), "it has no other file: {asset}");
        }
        fs::write(&path, "a letter").unwrap();
        assert_eq!(add(&path, run("x", "1")).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter", "nothing of others is overwritten");
    }

    #[test]
    fn the_command_is_told_without_the_token() {
        let of = |words: &[&str]| command(words.iter().map(|word| (*word).to_owned()));
        let told = of(&["/usr/bin/fanfare", "bench", "idle", "--token", "s3cret", "--topic", "a b'c"]);
        assert_eq!(told, "fanfare bench idle --token … --topic 'a b'\\''c'");
        assert_eq!(of(&["fanfare", "--token=s3cret", "-c", "1"]), "fanfare --token=… -c 1");
    }
}
