//! `fanfare top`: the essentials of a node and its cluster, live in a terminal.

pub mod args;
mod draw;
mod feed;
mod view;
mod words;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use signal_hook::consts::{SIGHUP, SIGTERM};

use crate::client::http::{Error, Url};
use crate::client::top::args::TopArgs;
use crate::client::top::feed::{Feed, News, is_final, parse};
use crate::client::top::view::View;

/// Exit status for a mistake in the arguments.
const USAGE: u8 = 2;
/// How long a key, or a snapshot, may wait to be looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Text that goes no terminal is as wide as this, and at most as high.
const PLAIN: Rect = Rect { x: 0, y: 0, width: 110, height: 60 };

#[derive(Debug, thiserror::Error)]
enum TopError {
    #[error("{0}: {1}")]
    Node(String, Error),
    #[error("cannot read --secret-file {0}: {1}")]
    Secret(String, io::Error),
    #[error("the terminal does not do as it should: {0}; --once prints the essentials as text")]
    Terminal(io::Error),
}

impl TopError {
    fn code(&self) -> u8 {
        match self {
            TopError::Secret(..) => USAGE,
            TopError::Node(_, error) if is_final(error) => USAGE,
            TopError::Node(..) | TopError::Terminal(_) => 1,
        }
    }
}

/// Runs `fanfare top` and returns its exit status.
pub fn run(args: &TopArgs) -> ExitCode {
    match show(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = match &error {
                TopError::Node(_, Error::Status { status: 401, .. }) => "; give it with --secret-file FILE",
                TopError::Node(_, Error::Status { status: 404, .. }) => {
                    "; --url is that of a node's internal listener, such as http://127.0.0.1:8081"
                }
                _ => "",
            };
            eprintln!("fanfare top: {error}{hint}");
            ExitCode::from(error.code())
        }
    }
}

fn show(args: &TopArgs) -> Result<(), TopError> {
    let fails = |error| TopError::Node(args.url.clone(), error);
    let url = Url::parse(&args.url).map_err(fails)?;
    let feed = Feed { url, secret: args.secret_file.as_deref().map(secret).transpose()? };
    if !args.json && !args.once && io::stdout().is_terminal() {
        return live(args, feed);
    }
    let mut text = String::new();
    let take = |data| {
        text = data;
        true
    };
    feed.read(take).map_err(fails)?;
    if !args.json {
        let mut view = View::new(&args.url);
        view.take(News::Snapshot(Box::new(parse(&text).map_err(fails)?)));
        text = plain(&view);
    }
    // A reader such as `head` may have gone, which is no reason to fail.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(())
}

fn secret(file: &str) -> Result<String, TopError> {
    let text = std::fs::read_to_string(file).map_err(|error| TopError::Secret(file.to_owned(), error))?;
    // Behind the present one there may be the one before.
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// What the screen would show, as text.
fn plain(view: &View) -> String {
    let mut screen = Buffer::empty(PLAIN);
    draw::draw(view, PLAIN, &mut screen);
    let lines = screen.content.chunks(usize::from(PLAIN.width)).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    let mut lines: Vec<String> = lines.collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.join("\n")
}

fn live(args: &TopArgs, feed: Feed) -> Result<(), TopError> {
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ends)).map_err(TopError::Terminal)?;
    }
    let (to, news) = sync_channel(1);
    std::thread::spawn(move || feed.follow(&to));
    // It also sees to it that a panic gives the terminal back before it is written.
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let ended = watch(&mut terminal, View::new(&args.url), &news, &ends);
    ratatui::restore();
    ended.map_err(TopError::Terminal)?.map_or(Ok(()), |error| Err(TopError::Node(args.url.clone(), error)))
}

/// Until a key or a signal ends it, or the node refuses for good.
fn watch(
    terminal: &mut DefaultTerminal,
    mut view: View,
    news: &Receiver<News>,
    ends: &AtomicBool,
) -> io::Result<Option<Error>> {
    let mut is_new = true;
    while !ends.load(Ordering::Relaxed) {
        if std::mem::take(&mut is_new) {
            terminal.draw(|frame| draw::draw(&view, frame.area(), frame.buffer_mut()))?;
        }
        if event::poll(LOOK)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(None),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(None),
                    _ => {}
                },
                Event::Resize(..) => is_new = true,
                _ => {}
            }
        }
        while let Ok(one) = news.try_recv() {
            match one {
                News::Refused(error) => return Ok(Some(error)),
                one => view.take(one),
            }
            is_new = true;
        }
    }
    Ok(None)
}
