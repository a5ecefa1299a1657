//! Line charts as SVG. By hand, since crates for that write colours into the picture, where a page in the dark wants others.
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::figures::grouped;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
/// Room around the lines for the axes' words.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Colours that there are for lines; further ones begin anew, with dashes.
pub const COLOURS: usize = 6;

/// What a line is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Seconds.
    Time,
    /// Shares of all, from 0 to below 1, the further apart the nearer they are to 1.
    Percentiles,
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    pub unit: String,
    pub over: Over,
    pub points: Vec<(f64, f64)>,
}

impl Line {
    pub fn over_time(name: &str, unit: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), over: Over::Time, points }
    }
}

/// A number as it is said at an axis.
fn said(value: f64) -> String {
    if value.abs() >= 1000.0 { grouped(value.round() as u64) } else { format!("{}", (value * 1000.0).round() / 1000.0) }
}

/// A round step with which `most` is reached in 3 to 6 steps.
fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|round| round * power).into_iter().find(|step| *step >= rough).unwrap_or(rough)
}

/// Where a point stands on the axis of percentiles: at how many nines.
fn nines(share: f64) -> f64 {
    -(1.0 - share.clamp(0.0, 0.999_999)).log10()
}

/// Draws lines of one name, each in the colour of its number. Those without points are left out.
pub fn draw(lines: &[(usize, &Line)]) -> String {
    let Some((_, first)) = lines.first() else { return String::new() };
    let points = || lines.iter().flat_map(|(_, line)| &line.points);
    let x_of = |x: f64| if first.over == Over::Time { x } else { nines(x) };
    let x_most = points().map(|(x, _)| x_of(*x)).fold(0.0, f64::max).max(1e-9);
    let y_step = step(points().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-9));
    let y_most = (points().map(|(_, y)| *y).fold(0.0, f64::max) / y_step).ceil().max(1.0) * y_step;
    let across = |x: f64| LEFT + x_of(x) / x_most * (WIDTH - LEFT - RIGHT);
    let down = |y: f64| HEIGHT - BOTTOM - y / y_most * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}, {}\">",
        escape(&first.name),
        escape(&first.unit)
    );
    let mut mark = |x: f64, y: f64, text: &str, anchor: &str, grid: (f64, f64, f64, f64)| {
        let (x1, y1, x2, y2) = grid;
        write!(svg, "<line class=\"grid\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>").and_then(
            |()| write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text)),
        )
    };
    let mut y = 0.0;
    while y <= y_most * 1.001 {
        let at = down(y);
        mark(LEFT - 6.0, at + 4.0, &said(y), "end", (LEFT, at, WIDTH - RIGHT, at)).expect("a String takes every write");
        y += y_step;
    }
    let marks: Vec<(f64, String)> = match first.over {
        Over::Time => {
            let step = step(x_most);
            (0..)
                .map(|n| f64::from(n) * step)
                .take_while(|x| *x <= x_most)
                .map(|x| (x, format!("{} s", said(x))))
                .collect()
        }
        Over::Percentiles => [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
            .into_iter()
            .take_while(|share| nines(*share) <= x_most * 1.001)
            .map(|share| (share, format!("{} %", said(share * 100.0))))
            .collect(),
    };
    for (x, text) in marks {
        let at = across(x);
        mark(at, HEIGHT - BOTTOM + 18.0, &text, "middle", (at, TOP, at, HEIGHT - BOTTOM))
            .expect("a String takes every write");
    }
    for (number, line) in lines.iter().filter(|(_, line)| !line.points.is_empty()) {
        let at = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", across(*x), down(*y));
        let points: Vec<String> = line.points.iter().map(at).collect();
        let class = class_of(*number);
        write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "))
            .expect("a String takes every write");
    }
    svg + "</svg>"
}

/// The class of what belongs to the run of that number.
pub fn class_of(number: usize) -> String {
    format!("run c{}{}", number % COLOURS, if number / COLOURS % 2 == 1 { " dashed" } else { "" })
}

/// Text as it stands in HTML and SVG, also in attributes. Control characters, which XML has no way for, become blanks.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (most, wanted) in
            [(1.0, 0.2), (7.0, 2.0), (30.0, 10.0), (999.0, 200.0), (1_100_000.0, 500_000.0), (0.04, 0.01)]
        {
            let step = step(most);
            assert!((step - wanted).abs() < wanted * 1e-9, "{step}, not {wanted}, to {most}");
        }
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert!(nines(0.0).abs() < 1e-9 && nines(1.0).is_finite());
        assert_eq!(escape("<a b=\"&\">\u{1b}"), "&lt;a b=&quot;&amp;&quot;&gt; ");
    }

    #[test]
    fn a_line_ends_where_its_points_do() {
        let line = Line::over_time("Deliveries", "a second", vec![(0.0, 0.0), (2.0, 50.0)]);
        let svg = draw(&[(0, &line), (7, &line)]);
        assert!(svg.contains("<polyline class=\"run c0\" points=\"70.0,206.0 626.0,10.0\"/>"), "{svg}");
        assert!(svg.contains("<polyline class=\"run c1 dashed\""), "{svg}");
        assert!(svg.contains(">50</text>") && svg.contains(">2 s</text>"), "{svg}");
        let none = Line { points: vec![], ..line };
        assert!(!draw(&[(0, &none)]).contains("polyline"));
        assert_eq!(draw(&[]), "");
    }
}
