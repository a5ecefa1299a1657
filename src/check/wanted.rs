//! What `tuning/sysctl.conf` asks for. The file is part of the program, so the two cannot diverge.

/// The file that `tuning/apply` applies.
const FILE: &str = include_str!("../../tuning/sysctl.conf");

/// How a field of a setting is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// More is as good.
    AtLeast,
    /// Less is as good.
    AtMost,
    /// Nothing else will do.
    Exactly,
}

/// One kernel setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, such as `net.core.somaxconn`.
    pub name: String,
    /// Whether a kernel may lack it.
    pub optional: bool,
    /// Its fields, each with how it is compared.
    pub fields: Vec<(Rule, u64)>,
    /// What Fanfare needs it for.
    pub why: String,
    /// What happens if it stays as it is.
    pub without: String,
    /// Only boxes with at least so many bytes of memory want it.
    pub memory_bytes: u64,
    /// Only boxes for at least so many connections want it.
    pub connections_min: u64,
    /// The connections that the value is for, and the least that is wanted for fewer.
    pub sized: Option<(u64, u64)>,
}

/// Every kernel setting of the file, in its order.
///
/// # Panics
/// When the file is not as its head says; a test reads it, so a build with such a file does not pass.
pub fn all() -> Vec<Wanted> {
    parse(FILE).unwrap_or_else(|problem| panic!("tuning/sysctl.conf {problem}"))
}

impl Wanted {
    /// Where the kernel shows it, below the root of the file system.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.name.replace('.', "/"))
    }

    /// The same for so many connections: a value that is sized by them in proportion.
    pub fn for_connections(&self, connections: u64) -> Wanted {
        let mut wanted = self.clone();
        if let Some((full, least)) = self.sized {
            for (_, value) in &mut wanted.fields {
                let part = u128::from(*value) * u128::from(connections.min(full)) / u128::from(full);
                *value = (part as u64).max(least.min(*value));
            }
        }
        wanted
    }

    /// Its value as the file has it.
    pub fn value(&self) -> String {
        let fields: Vec<String> = self.fields.iter().map(|(_, value)| value.to_string()).collect();
        fields.join(" ")
    }

    /// Whether what the kernel shows is good enough. `None` when it is not numbers, or not as many as wanted.
    pub fn holds(&self, found: &str) -> Option<bool> {
        let found: Vec<u64> = found.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        (found.len() == self.fields.len()).then(|| {
            self.fields.iter().zip(found).all(|(&(rule, wanted), found)| match rule {
                Rule::AtLeast => found >= wanted,
                Rule::AtMost => found <= wanted,
                Rule::Exactly => found == wanted,
            })
        })
    }

    /// The value to set where `found` is: fields that are good enough stay as they are, as `tuning/apply` leaves them.
    pub fn better(&self, found: &str) -> String {
        let found: Vec<Option<u64>> = found.split_whitespace().map(|field| field.parse().ok()).collect();
        if found.len() != self.fields.len() {
            return self.value();
        }
        let field = |(&(rule, wanted), found): (&(Rule, u64), Option<u64>)| match (rule, found) {
            (Rule::AtLeast, Some(found)) => wanted.max(found).to_string(),
            (Rule::AtMost, Some(found)) => wanted.min(found).to_string(),
            _ => wanted.to_string(),
        };
        self.fields.iter().zip(found).map(field).collect::<Vec<_>>().join(" ")
    }

    /// What is wanted, in words.
    pub fn describe(&self) -> String {
        let word = |rule| match rule {
            Rule::AtLeast => "at least ",
            Rule::AtMost => "at most ",
            Rule::Exactly => "",
        };
        if let [(Rule::AtMost, low), (Rule::AtLeast, high)] = self.fields[..] {
            return format!("{low} to {high} or wider");
        }
        let mut text = String::new();
        let mut previous = None;
        for &(rule, value) in &self.fields {
            if previous.is_some() {
                text.push_str(if previous == Some(rule) { " " } else { ", " });
            }
            if previous != Some(rule) {
                text.push_str(word(rule));
            }
            text.push_str(&value.to_string());
            previous = Some(rule);
        }
        text
    }
}

/// What a comment's line may begin with.
const TAGS: [&str; 6] = ["Why", "Without", "Wanted", "Memory", "Connections", "Sized"];

#[derive(Default)]
struct Comments {
    why: String,
    without: String,
    wanted: String,
    memory: String,
    connections: String,
    sized: String,
}

fn parse(file: &str) -> Result<Vec<Wanted>, String> {
    let mut settings = Vec::new();
    let mut comments = Comments::default();
    let mut tag = "";
    for (number, line) in (1..).zip(file.lines()) {
        let at = |problem: &str| format!("line {number}: {problem}");
        if let Some(comment) = line.strip_prefix('#') {
            let text = comment.trim();
            let tagged = text.split_once(": ").filter(|(word, _)| TAGS.contains(word));
            let text = match tagged {
                Some((word, rest)) => {
                    tag = word;
                    rest
                }
                None => text,
            };
            let field = match tag {
                "Why" => &mut comments.why,
                "Without" => &mut comments.without,
                "Wanted" => &mut comments.wanted,
                "Memory" => &mut comments.memory,
                "Connections" => &mut comments.connections,
                "Sized" => &mut comments.sized,
                _ => continue,
            };
            if !field.is_empty() {
                field.push(' ');
            }
            field.push_str(text);
        } else if line.trim().is_empty() {
            comments = Comments::default();
            tag = "";
        } else {
            let (name, value) = line.split_once('=').ok_or_else(|| at("no = in it"))?;
            settings.push(
                setting(name.trim(), value.trim(), std::mem::take(&mut comments)).map_err(|problem| at(&problem))?,
            );
            tag = "";
        }
    }
    Ok(settings)
}

fn setting(name: &str, value: &str, comments: Comments) -> Result<Wanted, String> {
    for (tag, text) in [("Why", &comments.why), ("Without", &comments.without), ("Wanted", &comments.wanted)] {
        if text.is_empty() {
            return Err(format!("{name} has no {tag}"));
        }
    }
    let values: Vec<u64> = value
        .split_whitespace()
        .map(|field| field.parse().map_err(|_| format!("{field} is no number")))
        .collect::<Result<_, _>>()?;
    let rules = match (comments.wanted.as_str(), values.len()) {
        ("range", 2) => vec![Rule::AtMost, Rule::AtLeast],
        (words, count) => {
            let rules: Vec<Rule> = words
                .split(", ")
                .map(|word| match word {
                    "at least" => Ok(Rule::AtLeast),
                    "at most" => Ok(Rule::AtMost),
                    "exactly" => Ok(Rule::Exactly),
                    word => Err(format!("{word:?} is no way to compare {count} fields")),
                })
                .collect::<Result<_, _>>()?;
            if rules.len() == 1 { vec![rules[0]; count] } else { rules }
        }
    };
    if values.is_empty() || rules.len() != values.len() {
        return Err(format!("{name} has {} fields and {} rules", values.len(), rules.len()));
    }
    let memory_bytes = match comments.memory.as_str() {
        "" => 0,
        text => {
            let gib = text.strip_suffix(" GiB").and_then(|number| number.parse::<u64>().ok());
            gib.ok_or_else(|| format!("{text:?} is not a number of GiB"))? << 30
        }
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
    let connections_min = match comments.connections.as_str() {
        "" => 0,
        text => number(text)?,
    };
    let sized = match comments.sized.split_once(" connections, from ") {
        Some((full, least)) => Some((number(full)?, number(least)?)).filter(|(full, _)| *full > 0),
        None if comments.sized.is_empty() => None,
        None => return Err(format!("{:?} does not say for how many connections, and from where on", comments.sized)),
    };
    Ok(Wanted {
        name: name.trim_start_matches('-').to_owned(),
        optional: name.starts_with('-'),
        fields: rules.into_iter().zip(values).collect(),
        why: comments.why,
        without: comments.without,
        memory_bytes,
        connections_min,
        sized,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LISTEN_BACKLOG, NOTSENT_LOWAT_BYTES, SEND_BUFFER_BYTES};

    fn value_of(name: &str) -> u64 {
        all().into_iter().find(|wanted| wanted.name == name).unwrap().fields[0].1
    }

    #[test]
    fn the_file_is_read_whole() {
        let lines = FILE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).count();
        let all = all();
        assert_eq!(all.len(), lines);
        assert!(all.len() >= 20);
        let mut names: Vec<_> = all.iter().map(|wanted| &wanted.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lines, "each once");
        let memory = all.iter().find(|wanted| wanted.name == "net.ipv4.tcp_mem").unwrap();
        assert_eq!((memory.memory_bytes, memory.fields.len()), (20 << 30, 3));
        assert!(memory.why.ends_with("two million."), "{}", memory.why);
    }

    #[test]
    fn the_kernel_allows_what_sockets_ask_for() {
        assert_eq!(value_of("net.core.somaxconn"), LISTEN_BACKLOG as u64);
        assert!(value_of("net.core.wmem_max") >= SEND_BUFFER_BYTES as u64);
        assert_eq!(value_of("net.ipv4.tcp_notsent_lowat"), u64::from(NOTSENT_LOWAT_BYTES));
    }

    #[test]
    fn fields_are_compared_by_their_rules() {
        let text = |rules: &str| format!("# Why: a\n# Without: b\n# Wanted: {rules}\nx.y = 10 20\n");
        let holds = |rules: &str, found: &str| parse(&text(rules)).unwrap()[0].holds(found);
        assert_eq!(holds("at least", "10\t20\n"), Some(true));
        assert_eq!(holds("at least", "10 19"), Some(false));
        assert_eq!(holds("at most", "9 20"), Some(true));
        assert_eq!(holds("at most", "11 20"), Some(false));
        assert_eq!(holds("exactly", "10 21"), Some(false));
        assert_eq!(holds("range", "9 21"), Some(true));
        assert_eq!(holds("range", "11 21"), Some(false));
        assert_eq!(holds("at most, at least", "10 20"), Some(true));
        assert_eq!(holds("at least", "10"), None);
        assert_eq!(holds("at least", "10 x"), None);
        let better = |rules: &str, found: &str| parse(&text(rules)).unwrap()[0].better(found);
        assert_eq!(better("at least", "5 30"), "10 30");
        assert_eq!(better("at most", "5 30"), "5 20");
        assert_eq!(better("exactly", "5 30"), "10 20");
        assert_eq!(better("at least", "5"), "10 20");
        let described = |rules: &str| parse(&text(rules)).unwrap()[0].describe();
        assert_eq!(described("at least"), "at least 10 20");
        assert_eq!(described("at least, at most"), "at least 10, at most 20");
        assert_eq!(described("range"), "10 to 20 or wider");
    }

    #[test]
    fn a_line_without_its_reason_is_refused() {
        for (file, problem) in [
            ("# Without: b\n# Wanted: exactly\nx = 1\n", "line 3: x has no Why"),
            ("# Why: a\n# Wanted: exactly\nx = 1\n", "line 3: x has no Without"),
            ("# Why: a\n# Without: b\nx = 1\n", "line 3: x has no Wanted"),
            ("# Why: a\n# Without: b\n# Wanted: more\nx = 1\n", "line 4: \"more\" is no way"),
            ("# Why: a\n# Without: b\n# Wanted: exactly, exactly\nx = 1\n", "line 4: x has 1 fields and 2 rules"),
            ("x\n", "line 1: no = in it"),
        ] {
            let error = parse(file).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
