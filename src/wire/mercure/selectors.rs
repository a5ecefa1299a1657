//! Selectors of topics, by which a token says what it is for, and a stream what it is to have: a topic, a URI template (RFC 6570)
//! of topics, or `*` for all.
//!
//! A template selects what some values of its variables would make of it. As Mercure's own hub does, it is taken as a pattern: an
//! expression stands for characters that its operator lets through, whatever the variables' names are.

/// A list of selectors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selectors(Box<[Box<str>]>);

impl Selectors {
    /// Those of a list.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Selectors {
        Selectors(texts.into_iter().map(Box::from).collect())
    }

    /// Whether one of them selects this topic. It takes time in proportion to their length times the topic's.
    pub fn select(&self, topic: &str) -> bool {
        self.0.iter().any(|selector| &**selector == ALL || &**selector == topic || matches(selector, topic))
    }

    /// The texts of the list.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|text| &**text)
    }
}

/// What selects all topics.
pub const ALL: &str = "*";

/// The expressions of a text that selects by a template; 0 of one that selects only itself.
pub fn expressions(selector: &str) -> usize {
    parts(selector).map_or(0, |parts| parts.iter().filter(|part| matches!(part, Part::Expression(_))).count())
}

/// What all topics begin with that a template or `*` selects; none for a text that selects only itself.
pub fn literal_begin(selector: &str) -> Option<&str> {
    match selector {
        ALL => Some(""),
        _ => selector.split('{').next().filter(|_| expressions(selector) > 0),
    }
}

/// A part of a template.
enum Part<'a> {
    /// Stands for itself.
    Literal(&'a str),
    /// `{…}`
    Expression(Expression),
}

/// What an expression may stand for.
struct Expression {
    /// What precedes its values, which may be missing with them.
    first: Option<u8>,
    /// What stands between them.
    between: u8,
    /// How often it may; none for any number.
    most: Option<u16>,
    /// Reserved characters go through as they are (RFC 6570 sections 3.2.3 and 3.2.4).
    is_reserved: bool,
    /// Values may have their names, with `=` between.
    is_named: bool,
}

/// The parts of a template; `None` if it is not one.
fn parts(template: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), template);
    loop {
        let Some(open) = rest.find(['{', '}']) else {
            parts.push(Part::Literal(rest));
            return Some(parts);
        };
        parts.push(Part::Literal(&rest[..open]));
        let (expression, more) = rest[open..].strip_prefix('{')?.split_once('}')?;
        parts.push(Part::Expression(Expression::parse(expression)?));
        rest = more;
    }
}

impl Expression {
    /// What stands between the braces (RFC 6570 section 2.2).
    fn parse(text: &str) -> Option<Expression> {
        let operator = text.bytes().next()?;
        let (first, between, is_reserved, is_named) = match operator {
            b'+' => (None, b',', true, false),
            b'#' => (Some(b'#'), b',', true, false),
            b'.' | b'/' => (Some(operator), operator, false, false),
            b';' => (Some(b';'), b';', false, true),
            b'?' | b'&' => (Some(operator), b'&', false, true),
            _ => (None, b',', false, false),
        };
        let variables = if first.is_some() || is_reserved { &text[1..] } else { text };
        let mut explodes = false;
        for variable in variables.split(',') {
            let name = match variable.strip_suffix('*') {
                Some(name) => {
                    explodes = true;
                    name
                }
                None => match variable.split_once(':') {
                    Some((name, length)) => {
                        length.parse::<u16>().ok().filter(|length| (1..10_000).contains(length))?;
                        name
                    }
                    None => variable,
                },
            };
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'%');
            if name.is_empty() || !name.bytes().all(fits) {
                return None;
            }
        }
        let most = u16::try_from(variables.split(',').count() - 1).ok()?;
        Some(Expression {
            first,
            between,
            most: (!explodes).then_some(most),
            is_reserved,
            is_named: is_named || explodes,
        })
    }

    /// Whether a value may have this byte.
    fn lets(&self, byte: u8) -> bool {
        match byte {
            b'-' | b'.' | b'_' | b'~' => true,
            b',' => true,
            b'=' if self.is_named => true,
            b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' => self.is_reserved,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => self.is_reserved,
            byte => byte.is_ascii_alphanumeric(),
        }
    }

    /// The places of `topic` at which it may end, if it may begin at these.
    fn ends(&self, topic: &[u8], begins: &[bool]) -> Vec<bool> {
        // How often the least had what stands between, of the ways that lead to a place within it.
        let mut least: Vec<Option<u16>> = vec![None; begins.len()];
        let reach = |least: &mut Vec<Option<u16>>, at: usize, count: u16| {
            least[at] = Some(least[at].map_or(count, |before| before.min(count)));
        };
        for at in 0..begins.len() {
            if begins[at] {
                match self.first {
                    None => reach(&mut least, at, 0),
                    Some(first) if topic.get(at) == Some(&first) => reach(&mut least, at + 1, 0),
                    Some(_) => {}
                }
            }
            let (Some(count), Some(&byte)) = (least[at], topic.get(at)) else { continue };
            let is_escape = byte == b'%'
                && topic.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            if self.lets(byte) {
                reach(&mut least, at + 1, count);
            } else if is_escape {
                reach(&mut least, at + 3, count);
            } else if byte == self.between && self.most.is_none_or(|most| count < most) {
                reach(&mut least, at + 1, count + 1);
            }
        }
        let may_be_missing = |at: usize| self.first.is_some() && begins[at];
        least.iter().enumerate().map(|(at, count)| count.is_some() || may_be_missing(at)).collect()
    }
}

/// Whether a topic is what a template may become.
fn matches(template: &str, topic: &str) -> bool {
    if !template.contains('{') {
        return false;
    }
    let Some(parts) = parts(template) else { return false };
    let topic = topic.as_bytes();
    let mut places = vec![false; topic.len() + 1];
    places[0] = true;
    for part in parts {
        places = match part {
            Part::Literal(text) => {
                let follows = |at: usize| {
                    at.checked_sub(text.len())
                        .is_some_and(|begin| places[begin] && topic[begin..at] == *text.as_bytes())
                };
                (0..places.len()).map(follows).collect()
            }
            Part::Expression(expression) => expression.ends(topic, &places),
        };
        if !places.contains(&true) {
            return false;
        }
    }
    places[topic.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selects(selector: &str, topic: &str) -> bool {
        Selectors::of([selector]).select(topic)
    }

    #[test]
    fn a_topic_a_template_or_all() {
        for (selector, topic, expected) in [
            ("*", "anything at all", true),
            ("https://a.example/1", "https://a.example/1", true),
            ("https://a.example/1", "https://a.example/11", false),
            ("https://a.example/*", "https://a.example/1", false),
            ("https://a.example/books/{id}", "https://a.example/books/1", true),
            ("https://a.example/books/{id}", "https://a.example/books/a%2Fb", true),
            ("https://a.example/books/{id}", "https://a.example/books/", true),
            ("https://a.example/books/{id}", "https://a.example/books/1/reviews", false),
            ("https://a.example/books/{id}", "https://a.example/books/1?x", false),
            ("https://a.example/books/{id}", "https://a.example/books/%zz", false),
            ("https://a.example/books/{id}", "https://b.example/books/1", false),
            ("https://a.example/books/{id}", "https://a.example/books/{id}", true),
            ("https://a.example/{+path}", "https://a.example/a/b?c=d#e", true),
            ("https://a.example/users/{user}/{?topic}", "https://a.example/users/ana/?topic=https%3A%2F%2Fa", true),
            ("https://a.example/users/{user}/{?topic}", "https://a.example/users/ana/", true),
            ("https://a.example/users/{user}/{?topic}", "https://a.example/users/ana/?a=b&c=d", false),
            ("https://a.example/{?a,b}", "https://a.example/?a=1&b=2", true),
            ("https://a.example/{?a,b}", "https://a.example/?a=1&b=2&c=3", false),
            ("https://a.example/{?a*}", "https://a.example/?a=1&b=2&c=3", true),
            ("https://a.example{/a,b}", "https://a.example/1/2", true),
            ("https://a.example{/a,b}", "https://a.example/1/2/3", false),
            ("https://a.example{/a*}", "https://a.example/1/2/3", true),
            ("https://a.example{/a}", "https://a.example", true),
            ("{scheme}://{host}/{id}", "https://a.example/7", true),
            ("{a}{b}", "xy", true),
            ("/feed{#part}", "/feed#a/b", true),
            ("/feed{;a}", "/feed;a=1", true),
            ("/{id:3}", "/abc", true),
            // What is no template selects itself alone.
            ("will-not-match}", "will-not-match}", true),
            ("a{", "a{", true),
            ("a{", "ab", false),
            ("{}", "x", false),
            ("{=x}", "x", false),
            ("{a b}", "x", false),
            ("{id", "x", false),
            ("{a:0}", "x", false),
        ] {
            assert_eq!(selects(selector, topic), expected, "{selector} {topic}");
        }
        assert!(!Selectors::of([]).select("a"));
        for (selector, expected) in
            [("*", false), ("a", false), ("a}", false), ("{}", false), ("{id}", true), ("a/{+b}/c", true)]
        {
            assert_eq!(expressions(selector) > 0, expected, "{selector}");
        }
    }

    proptest! {
        /// A template selects what it becomes, and nothing that differs from it before its first expression.
        #[test]
        fn what_a_template_becomes_it_selects(
            literals in prop::collection::vec("[a-z:/]{0,4}", 2..5), values in prop::collection::vec("[a-zA-Z0-9._~-]{0,6}|%[0-9A-F]{2}", 4),
            operators in prop::collection::vec(prop::sample::select(vec!["", "+", "#", ".", "/"]), 4),
        ) {
            let (mut template, mut topic) = (literals[0].clone(), literals[0].clone());
            for ((literal, value), operator) in literals[1..].iter().zip(&values).zip(&operators) {
                template += &format!("{{{operator}v}}{literal}");
                topic += &format!("{}{value}{literal}", operator.trim_start_matches('+'));
            }
            prop_assert_eq!(expressions(&template), operators.len().min(literals.len() - 1));
            prop_assert_eq!(literal_begin(&template), Some(&*literals[0]));
            prop_assert!(selects(&template, &topic), "{} {}", template, topic);
            let other = format!("!{topic}");
            prop_assert!(literals[0].is_empty() || !selects(&template, &other));
        }

        #[test]
        fn any_text_may_be_a_selector(selector in "[{}a-c/?&=+#.,*:% ]{0,24}", topic in "[{}a-c/?&=+#.,*:% ]{0,24}") {
            let _ = selects(&selector, &topic);
            prop_assert!(selects(&selector, &selector));
        }
    }
}
