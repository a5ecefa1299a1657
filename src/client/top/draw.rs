//! The screen: the node, its figures, then as many lists as there is room for, those of what goes wrong first.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Row, Sparkline, Table, Widget as _};

use crate::client::top::view::View;
use crate::client::top::words::{age, bytes, count, of, short, time};
use crate::wire::snapshot::{DataCenterView, Figure, NodeView, Snapshot, Standing};

/// From so many columns on, lists stand beside each other.
const WIDE: u16 = 100;
/// A turn from which on viewers may notice, in microseconds.
const LONG_TURN_US: u64 = 100_000;
/// A shard that did not answer for so long does not turn, in milliseconds.
const SILENT_MS: u64 = 2_500;

/// A list: its title, the widths of its columns, their names, and its rows, each with its colour.
struct List {
    title: &'static str,
    widths: Vec<Constraint>,
    head: Vec<&'static str>,
    rows: Vec<(Vec<String>, Style)>,
    /// What is said where there are no rows.
    none: &'static str,
}

/// Draws all of it.
pub fn draw(view: &View, area: Rect, screen: &mut Buffer) {
    let Some(now) = &view.now else {
        let line = match &view.lost {
            None => Line::from(format!("fanfare top: asking {}", view.url)),
            Some(why) => Line::from(format!("fanfare top: {why}; trying again (q ends)")).fg(Color::Red),
        };
        return line.render(area, screen);
    };
    let rows = Layout::vertical([Constraint::Length(1), Constraint::Length(4), Constraint::Min(0)]).split(area);
    head(view, now, rows[0], screen);
    figures(view, now, rows[1], screen);
    lists(now, rows[2], screen);
}

fn head(view: &View, now: &Snapshot, area: Rect, screen: &mut Buffer) {
    let own = now.nodes.first().cloned().unwrap_or_default();
    let glance = own.glance.unwrap_or_default();
    let line = vec![
        Span::from("fanfare top ").bold(),
        Span::from(format!(
            "{}  {} · {} · {} · {} · up {}",
            view.url,
            now.data_center,
            own.roles.join("+"),
            short(&now.node),
            glance.version,
            age(glance.uptime_seconds)
        )),
    ];
    Line::from(line).render(area, screen);
    let state = match (&view.lost, own.standing) {
        (Some(why), _) => Line::from(format!(" lost: {why}; trying again ")).fg(Color::Red).bold(),
        (None, Standing::Well) => Line::from(" live ").fg(Color::Green),
        (None, standing) => Line::from(format!(" {} ", name(standing))).fg(colour(standing)).bold(),
    };
    // What is wrong covers the rest, not the other way round.
    let width = (state.width() as u16).min(area.width);
    let at = Rect { x: area.right() - width, width, ..area };
    state.alignment(Alignment::Right).render(at, screen);
}

fn figures(view: &View, now: &Snapshot, area: Rect, screen: &mut Buffer) {
    let rate = |figures: &[Figure]| count(figures.iter().map(|figure| figure.per_second).sum());
    let living = now.nodes.iter().filter(|node| node.standing != Standing::Gone);
    let viewers: u64 = living.filter_map(|node| node.glance.as_ref()).map(|glance| glance.connections.now).sum();
    let latency = match view.latency() {
        Some((half, most)) => (format!("{} p99", time(most)), format!("{} p50", time(half))),
        None => ("–".to_owned(), "none yet".to_owned()),
    };
    let lagging: u64 = now.shards.iter().map(|shard| shard.lagging).sum();
    let cells = [
        ("Viewers", count(now.connections.now as f64), format!("{} in {}", count(viewers as f64), now.data_center)),
        ("Deliv/s", rate(&now.deliveries), format!("{}/s", bytes(now.written_bytes.per_second as u64))),
        ("Events/s", rate(&now.events), "published".to_owned()),
        ("Latency", latency.0, latency.1),
        ("Processors", format!("{:.2}", now.processors), format!("{} shards", now.shards.len())),
        ("Memory", bytes(now.memory_bytes.now), of(now.memory_bytes)),
        ("Lagging", count(lagging as f64), format!("wait {}", bytes(now.backlog_bytes.now))),
    ];
    let line = view.deliveries(usize::from(area.width));
    // Where there is room to draw, a line of the last minute's deliveries.
    let has_line = area.width >= WIDE && line.len() > 1;
    let columns =
        Layout::horizontal(cells.iter().map(|_| Constraint::Fill(2)).chain(has_line.then_some(Constraint::Fill(3))))
            .spacing(1)
            .split(area);
    for ((name, value, note), column) in cells.iter().zip(columns.iter()) {
        let lines = [Line::from(*name).dim(), Line::from(value.as_str()).bold(), Line::from(note.as_str()).dim()];
        for (line, row) in lines.into_iter().zip(column.rows()) {
            line.render(row, screen);
        }
    }
    if let Some(column) = columns.get(cells.len()).filter(|_| has_line) {
        let shown = line.len().saturating_sub(usize::from(column.width));
        let at = Rect { height: column.height.min(3), ..*column };
        Sparkline::default().data(&line[shown..]).style(Style::new().fg(Color::Blue)).render(at, screen);
    }
}

fn lists(now: &Snapshot, area: Rect, screen: &mut Buffer) {
    let (nodes, shards, losses) = (nodes(now), shards(now), losses(now));
    let (topics, clients) = (topics(now), clients(now));
    if area.width < WIDE {
        return stack(&[nodes, shards, losses, clients, topics], area, screen);
    }
    // Why somebody is late takes the whole width.
    let height = nodes.wants().min(area.height / 2);
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area);
    nodes.draw(above, screen);
    let columns = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).split(below);
    stack(&[shards, clients], columns[0], screen);
    stack(&[losses, topics], columns[1], screen);
}

/// Lists one below the other. Each gets what it needs, from the first on; what the last ones lack room for is not shown.
fn stack(lists: &[List], mut area: Rect, screen: &mut Buffer) {
    for (at, list) in lists.iter().enumerate() {
        if area.height < 3 {
            return;
        }
        // Something of each of the others is to be seen, too.
        let others: u16 = lists[at + 1..].iter().map(|other| other.wants().min(4)).sum();
        let height = list.wants().min(area.height.saturating_sub(others).max(4)).min(area.height);
        list.draw(Rect { height, ..area }, screen);
        area.y += height;
        area.height -= height;
    }
}

impl List {
    /// Lines that all of it takes, with an empty one behind it.
    fn wants(&self) -> u16 {
        2 + (self.rows.len() as u16).max(1) + u16::from(!self.rows.is_empty())
    }

    fn draw(&self, area: Rect, screen: &mut Buffer) {
        let block = Block::new().borders(Borders::TOP).title(Span::from(format!(" {} ", self.title)).bold());
        let inside = block.inner(area);
        block.border_style(Style::new().dim()).render(area, screen);
        if self.rows.is_empty() {
            return Line::from(self.none).dim().render(inside, screen);
        }
        let row = |cells: &Vec<String>, style| {
            let cell = |(at, text): (usize, &String)| {
                let side = if at == 0 { Alignment::Left } else { self.side(at) };
                Cell::from(Line::from(text.clone()).alignment(side))
            };
            Row::new(cells.iter().enumerate().map(cell).collect::<Vec<_>>()).style(style)
        };
        let head = self.head.iter().map(|name| (*name).to_owned()).collect();
        let head = row(&head, Style::new().add_modifier(Modifier::DIM));
        let rows = self.rows.iter().map(|(cells, style)| row(cells, *style));
        Table::new(rows, &self.widths).header(head).column_spacing(1).render(inside, screen);
    }

    /// Numbers stand right; the last column, if it takes what is left, holds words.
    fn side(&self, at: usize) -> Alignment {
        if matches!(self.widths[at], Constraint::Fill(_)) { Alignment::Left } else { Alignment::Right }
    }
}

fn nodes(now: &Snapshot) -> List {
    let row = |node: &NodeView| {
        let own = if node.id == now.node { "*" } else { "" };
        let roles = if node.roles.len() > 2 { "all".to_owned() } else { node.roles.join("+") };
        let glance = node.glance.as_ref().filter(|_| node.standing != Standing::Gone);
        let numbers = glance.map(|glance| {
            [glance.connections.now as f64, node.deliveries_per_second, node.events_per_second].map(count)
        });
        let lag = glance.map(|glance| glance.lagging).filter(|lagging| *lagging > 0);
        let fine = lag.map(|lagging| format!("{} lag", count(lagging as f64))).unwrap_or_default();
        let [viewers, deliveries, events] = numbers.unwrap_or_else(|| ["–"; 3].map(str::to_owned));
        let first = format!("{}{own} {roles}", short(&node.id));
        let words = said(node.standing, node.why.as_deref(), fine);
        (vec![first, viewers, deliveries, events, words], Style::new().fg(colour(node.standing)))
    };
    let data_center = |dc: &DataCenterView| {
        let waits = time(dc.lag_ms as f64 * 1e3);
        let fine = format!("{}/{} dispatchers reach it, oldest waits {waits}", dc.connected, dc.dispatchers);
        let [viewers, deliveries, events] = [(); 3].map(|()| String::new());
        let words = said(dc.standing, dc.why.as_deref(), fine);
        (vec![format!("dc {}", dc.name), viewers, deliveries, events, words], Style::new().fg(colour(dc.standing)))
    };
    let mut rows: Vec<_> = now.nodes.iter().map(row).chain(now.data_centers.iter().map(data_center)).collect();
    // A short screen shows first who is not well.
    rows.sort_by_key(|(_, style)| match style.fg {
        Some(Color::Red) => 0,
        Some(Color::Yellow) => 1,
        Some(Color::DarkGray) => 2,
        _ => 3,
    });
    List {
        title: "Cluster",
        widths: [18, 7, 7, 8].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]).collect(),
        head: vec!["Node", "Viewers", "Deliv/s", "Events/s", ""],
        rows,
        none: "no node is known",
    }
}

fn shards(now: &Snapshot) -> List {
    let rows = now.shards.iter().map(|shard| {
        let silent = shard.silent_ms > SILENT_MS;
        let turn =
            if silent { format!("{}…", time(shard.silent_ms as f64 * 1e3)) } else { time(shard.turn_max_us as f64) };
        let bad = silent || shard.turn_max_us > LONG_TURN_US || shard.mailbox.now * 2 > shard.mailbox.max;
        let cells = vec![
            shard.shard.to_string(),
            count(shard.streams as f64),
            count(shard.deliveries_per_second),
            turn,
            count(shard.mailbox.now as f64),
            count(shard.lagging as f64),
        ];
        (cells, if bad { Style::new().fg(Color::Red) } else { Style::new() })
    });
    List {
        title: "Shards",
        widths: [6, 8, 9, 9, 8, 8].map(Constraint::Length).to_vec(),
        head: vec!["Shard", "Viewers", "Deliv/s", "Longest", "Mailbox", "Lagging"],
        rows: rows.collect(),
        none: "",
    }
}

fn losses(now: &Snapshot) -> List {
    let kinds = [("refused", &now.refused), ("dropped", &now.dropped), ("", &now.troubles)];
    let all = kinds.into_iter().flat_map(|(kind, figures)| figures.iter().map(move |figure| (kind, figure)));
    let mut all: Vec<(&str, &Figure)> = all.collect();
    all.sort_by(|one, other| other.1.per_second.total_cmp(&one.1.per_second).then(other.1.total.cmp(&one.1.total)));
    let rows = all.into_iter().map(|(kind, figure)| {
        let name = format!("{kind} {}", figure.name.replace('_', " "));
        let style = if figure.per_second > 0.0 { Style::new().fg(Color::Yellow) } else { Style::new() };
        (vec![name.trim_start().to_owned(), count(figure.per_second), count(figure.total as f64)], style)
    });
    List {
        title: "Refused, dropped and else",
        widths: vec![Constraint::Fill(1), Constraint::Length(8), Constraint::Length(9)],
        head: vec!["What", "a second", "in all"],
        rows: rows.collect(),
        none: "nothing since the node's start",
    }
}

fn topics(now: &Snapshot) -> List {
    let rows = now.topics.iter().map(|hot| {
        let numbers = [hot.viewers as f64, f64::from(hot.events_per_second), f64::from(hot.deliveries_per_second)];
        (std::iter::once(hot.topic.clone()).chain(numbers.map(count)).collect(), Style::new())
    });
    List {
        title: "Hottest topics",
        widths: [Constraint::Fill(1)].into_iter().chain([8, 8, 8].map(Constraint::Length)).collect(),
        head: vec!["Topic", "Viewers", "Events/s", "Deliv/s"],
        rows: rows.collect(),
        none: "no topic had an event lately",
    }
}

fn clients(now: &Snapshot) -> List {
    let rows = now.clients.iter().map(|client| {
        let who = client["member"].as_str().or(client["address"].as_str()).unwrap_or("?");
        let since = client["seconds_without_progress"].as_u64().unwrap_or(0);
        let cells = vec![
            format!("{who} {}", client["topics"][0].as_str().unwrap_or_default()),
            bytes(client["pending_bytes"].as_u64().unwrap_or(0)),
            age(since),
        ];
        (cells, Style::new())
    });
    List {
        title: "Slowest clients",
        widths: vec![Constraint::Fill(1), Constraint::Length(9), Constraint::Length(8)],
        head: vec!["Client", "Waiting", "No read"],
        rows: rows.collect(),
        none: "every client keeps up",
    }
}

/// How something is, and why; or what there is to say where it is well.
fn said(standing: Standing, why: Option<&str>, fine: String) -> String {
    match standing {
        Standing::Well => fine,
        _ => format!("{}: {}", name(standing), why.unwrap_or("it does not say why")),
    }
}

fn name(standing: Standing) -> &'static str {
    match standing {
        Standing::Well => "well",
        Standing::Draining => "draining",
        Standing::Unready => "not ready",
        Standing::Late => "late",
        Standing::Gone => "gone",
        Standing::Unknown => "of another version",
    }
}

fn colour(standing: Standing) -> Color {
    match standing {
        Standing::Well => Color::Reset,
        Standing::Draining | Standing::Unknown => Color::Yellow,
        Standing::Unready | Standing::Late => Color::Red,
        Standing::Gone => Color::DarkGray,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::top::feed::{News, parse};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// A snapshot of a frontend, of whose data center another frontend is stopped and a backend gone; one of its clients has a name
    /// that would clear a terminal.
    const EXAMPLE: &str = include_str!("example.json");

    fn example() -> View {
        let mut view = View::new("http://10.0.0.7:8081");
        let snapshot = parse(EXAMPLE).unwrap();
        view.take(News::Snapshot(Box::new(snapshot.clone())));
        view.take(News::Snapshot(Box::new(snapshot)));
        view
    }

    /// The lines of a screen of this size.
    fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(view, frame.area(), frame.buffer_mut())).unwrap();
        let cells = terminal.backend().buffer().content.chunks(usize::from(width));
        cells.map(|cells| cells.iter().map(|cell| cell.symbol()).collect()).collect()
    }

    #[track_caller]
    fn has(lines: &[String], words: &[&str]) {
        let fits = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(lines.iter().any(fits), "{words:?} is in no line of\n{}", lines.join("\n"));
    }

    #[test]
    fn a_wide_screen_has_all() {
        let lines = screen(&example(), 120, 40);
        has(&lines, &["fanfare top", "http://10.0.0.7:8081", "eu", "frontend", "3fa9c2", "live"]);
        has(&lines, &["Viewers", "Deliv/s", "Events/s", "Latency", "Processors", "Memory", "Lagging"]);
        has(&lines, &["8bd10e", "frontend", "late: it has not answered for 4 s"]);
        has(&lines, &["99b2c3", "gone"]);
        has(&lines, &["dc ap", "late: events for it have waited for 12 s"]);
        has(&lines, &["142 ms"]);
        has(&lines, &["live:world-cup-final", "18.2k"]);
        has(&lines, &["live:world-cup-final", "64 KiB", "21 s"]);
        has(&lines, &["dropped overrun", "23"]);
    }

    #[test]
    fn a_small_screen_has_what_goes_wrong_first() {
        let lines = screen(&example(), 80, 24);
        has(&lines, &["Viewers", "Deliv/s", "Latency", "Lagging"]);
        has(&lines, &["8bd10e", "late: it has not answered for 4 s"]);
        has(&lines, &["Shard", "Longest", "Mailbox"]);
        let cluster = lines.iter().position(|line| line.contains("Cluster")).unwrap();
        let late = lines.iter().position(|line| line.contains("8bd10e")).unwrap();
        let own = lines.iter().position(|line| line.contains("3fa9c2*"));
        assert!(late > cluster && own.is_none_or(|own| own > late), "{}", lines.join("\n"));
    }

    #[test]
    fn no_size_and_no_snapshot_is_too_much() {
        let mut empty = View::new("u");
        empty.now = Some(Box::default());
        for view in [example(), empty, View::new("u")] {
            for (width, height) in [(1, 1), (7, 3), (30, 8), (99, 6), (100, 100), (300, 200)] {
                screen(&view, width, height);
            }
        }
    }

    #[test]
    fn a_node_that_is_away_is_said_to_be() {
        let mut view = View::new("http://h:1");
        has(&screen(&view, 80, 5), &["asking http://h:1"]);
        view.take(News::Lost("cannot reach h:1: refused".to_owned()));
        has(&screen(&view, 80, 5), &["cannot reach h:1: refused", "trying again"]);
        let mut view = example();
        view.take(News::Lost("the node ended the stream".to_owned()));
        let lines = screen(&view, 120, 40);
        has(&lines, &["lost: the node ended the stream", "trying again"]);
        has(&lines, &["live:world-cup-final"]);
    }

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        let text = screen(&example(), 120, 40).concat();
        assert!(text.contains("ana") && !text.contains(char::is_control), "{text:?}");
    }
}
