//! `fanfare crowd`: acts like an audience, so that a person sees the demo page alive and an operator can size a box.
//!
//! What happens when follows from a seed (`script`, with the words of `texts`). The process that is started posts
//! (`actor`) and reports; a fleet of client processes holds the streams (`audience`), each of which (`viewer`) is checked for
//! every comment that was acknowledged.
mod actor;
pub mod args;
mod audience;
mod script;
mod texts;
mod viewer;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use self::actor::{Actor, Live, Paths, Played};
use self::args::CrowdArgs;
use self::audience::{Audience, Order, Plan};
use self::script::{Pace, Script};
use self::texts::Run;
use super::bench::report::Report;
use super::fleet::measured::{Measured, Status};
use super::fleet::poster;
use super::fleet::processes::{Fleet, cores, processes_for};
use super::fleet::sys::now_us;
use super::fleet::transport::Target;
use super::http::{self, Url, percent_encode};
use crate::wire::topic::Topic;

/// Members of the chat.
const CHATTERS: u32 = 12;
/// Connections that post, and requests under way on each.
const POSTERS: usize = 8;
const DEPTH: usize = 32;
/// A thread that has fewer streams than this does not need another's help.
const MEMBERS_PER_THREAD: u32 = 5_000;
/// Between the start and the first act, for the processes to begin.
const LEAD_US: u64 = 300_000;
/// How long answers may come after the script's end.
const ANSWERS_US: u64 = 30_000_000;
/// Without any delivery for so long, what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited in all for what is missing, and for members to come back.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How often it is counted meanwhile, which goes through all members and comments.
const COUNT_EVERY: Duration = Duration::from_millis(500);
/// Where there is no terminal, a line now and then.
const LOG_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Lets a crowd watch and prints its report. Exit status 0 when nothing acknowledged was lost, 1 otherwise, 2 for a
/// mistake in the arguments.
pub fn run(args: &CrowdArgs) -> ExitCode {
    match play(args) {
        Ok(report) => {
            if args.json {
                println!("{:#}", report.to_json());
            } else {
                print!("{}", report.to_text());
            }
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("fanfare crowd: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_) | Error::Http(http::Error::Url(_))) { 2 } else { 1 })
        }
    }
}

fn play(args: &CrowdArgs) -> Result<Report, Error> {
    let url = Url::parse(&args.url)?;
    let target = Target::of(&url, false)?;
    let chat = args.chat.as_ref().unwrap_or(&args.video);
    let topic = |kind: &str, name: &str| {
        let topic = Topic::encode(kind, name).map_err(|error| Error::Usage(format!("{name:?}: {error}")))?;
        Ok::<_, Error>(percent_encode(topic.as_str()))
    };
    let (live_topic, chat_topic) = (topic("live", &args.video)?, topic("chat", chat)?);
    let token: String = args.token.iter().flat_map(|token| token.chars()).filter(|c| !c.is_control()).collect();
    let headers = if token.is_empty() { token } else { format!("Authorization: Bearer {token}\r\n") };
    let likes_before = likes_of(&url, &args.video, args.token.as_deref())?;

    let duration_us = args.duration.as_micros() as u64;
    let arrive_us = args.arrive.map_or((duration_us / 5).min(30_000_000), |time| time.as_micros() as u64);
    if arrive_us > duration_us {
        return Err(Error::Usage("--arrive must not be longer than --duration".to_owned()));
    }
    let members = args.members;
    let pace = Pace {
        members,
        chatters: CHATTERS.min(members),
        likes: args.likes.unwrap_or(f64::from(members) / 20.0),
        comments: args.comments.unwrap_or((f64::from(members) / 50.0).min(10.0)),
        arrive_us,
        end_us: duration_us,
        goal_us: args.goal.as_micros() as u64,
    };
    let processes = processes_for(members, "members", args.processes).map_err(Error::Usage)?;
    let threads = members.div_ceil(MEMBERS_PER_THREAD).min(cores());
    let run = Run::new(now_us() + LEAD_US);
    let plan = Plan {
        prefix: url.prefix.clone(),
        authority: url.authority.clone(),
        headers: headers.clone(),
        live: live_topic,
        chat: chat_topic,
        run: run.clone(),
        members,
        chatters: pace.chatters,
        arrive_us,
        stay_us: args.stay.as_micros() as f64,
        seed: args.seed,
    };
    let mut fleet = Fleet::start::<Audience>("crowd", &plan, target.clone(), processes, threads)?;
    let live = Arc::new(Live::default());
    let paths = Paths {
        video: format!("{}/v1/videos/{}", url.prefix, percent_encode(&args.video)),
        conversation: format!("{}/v1/conversations/{}", url.prefix, percent_encode(chat)),
        authority: url.authority.clone(),
        headers: headers.clone(),
    };
    let end_us = run.start_us + duration_us;
    let mut actor = Actor::new(Script::new(pace, args.seed), run, paths, CHATTERS.min(members), Arc::clone(&live));
    let acting = thread::Builder::new().name("crowd-actor".to_owned()).spawn(move || {
        let targets = vec![target; POSTERS];
        // A poster gives up a server that it cannot reach; a crowd comes back.
        loop {
            poster::run(&mut actor, &targets, DEPTH, end_us + ANSWERS_US);
            if actor.is_done() || now_us() >= end_us {
                return actor.played;
            }
            thread::sleep(Duration::from_secs(1));
        }
    })?;
    let shown = Shown::new(args, end_us);
    while !acting.is_finished() {
        shown.show("live", &fleet.status()?, &live);
        thread::sleep(SHOW_EVERY);
    }
    let played = acting.join().map_err(|_| io::Error::other("the posting thread panicked"))?;
    let mut total = settle(&mut fleet, &played, &shown, &live)?;
    let status = fleet.status()?;
    let likes_after = likes_of(&url, &args.video, args.token.as_deref());
    total += fleet.ask(Order::End)?;
    shown.done();
    Ok(report(args, &status, &played, &total, likes_before, likes_after))
}

/// Waits until all are back and have seen everything, or nothing comes any more; gives what was measured.
fn settle(fleet: &mut Fleet, played: &Played, shown: &Shown, live: &Live) -> io::Result<Measured> {
    fleet.tell(Order::Finish(played.comments.clone()))?;
    let (begin, mut since, mut seen) = (Instant::now(), Instant::now(), (0, 0));
    let mut total = Measured::default();
    loop {
        thread::sleep(COUNT_EVERY);
        total += fleet.ask(Order::Count)?;
        let status = fleet.status()?;
        shown.show("coming to rest", &status, live);
        if (status.received, status.ready) != seen {
            (seen, since) = ((status.received, status.ready), Instant::now());
        }
        let over = since.elapsed() > PATIENCE || begin.elapsed() > SETTLE_MAX;
        if over || status.missing + status.absent == 0 {
            return Ok(total);
        }
    }
}

/// All likes of the video.
fn likes_of(url: &Url, video: &str, token: Option<&str>) -> Result<u64, http::Error> {
    let path = format!("/v1/videos/{}/likes", percent_encode(video));
    let request = http::Request { path: &path, token, patience: Some(Duration::from_secs(10)), ..Default::default() };
    let answer: serde_json::Value = serde_json::from_str(&http::send(url, &request)?.text()?).unwrap_or_default();
    let none = || http::Error::Malformed("it tells no number of likes: is this a Fanfare backend?".to_owned());
    answer["likes"].as_u64().ok_or_else(none)
}

fn report(
    args: &CrowdArgs,
    status: &Status,
    played: &Played,
    total: &Measured,
    likes_before: u64,
    likes_after: Result<u64, http::Error>,
) -> Report {
    let mut report = Report::new("crowd");
    report.count("streams held", status.ready);
    report.count("members that left", status.left);
    report.count("of them came back", status.came_back);
    report.count("likes acknowledged", played.likes);
    report.count("comments acknowledged", played.comments.len() as u64);
    report.count("messages acknowledged", played.messages);
    report.count("deliveries", status.received);
    report.latency("POST to answer", &played.answers);
    report.latency("like to receipt", &total.latency);
    report.latency("comment to receipt", &total.comments);
    report.latency("message to receipt", &total.messages);
    report.number("actor behind max", "ms", played.behind_us_max as f64 / 1000.0);
    report.count("comments lost", status.missing);
    report.count("gaps told of", status.gaps);
    if status.missing > 0 {
        report.problem(format!("{} acknowledged comments did not reach a stream that was owed them", status.missing));
    }
    if status.absent > 0 {
        report.problem(format!("of {} streams {} were not open at the end", args.members, status.absent));
    }
    match likes_after {
        Ok(after) => {
            let stored = after.saturating_sub(likes_before);
            report.count("likes stored", stored);
            if stored < played.likes {
                report.problem(format!("{} likes were acknowledged and only {stored} are stored", played.likes));
            }
        }
        Err(error) => report.problem(format!("the likes could not be read at the end: {error}")),
    }
    if played.likes_unknown + played.comments_unknown > 0 {
        report.note(format!(
            "{} likes and {} comments were given up or never answered; they may be stored or not",
            played.likes_unknown, played.comments_unknown
        ));
    }
    let errors: BTreeMap<_, _> = played.errors.iter().chain(&total.errors).collect();
    for (what, count) in errors {
        report.note(format!("{count} × {what}"));
    }
    report
}

/// Live figures on a terminal, a line now and then elsewhere.
struct Shown {
    bar: ProgressBar,
    end_us: u64,
    logged: std::cell::Cell<Instant>,
    terminal: bool,
}

impl Shown {
    fn new(args: &CrowdArgs, end_us: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(args.duration.as_secs()) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix:>14} [{elapsed}] {bar:20} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, end_us, logged: std::cell::Cell::new(Instant::now()), terminal }
    }

    fn show(&self, phase: &'static str, status: &Status, live: &Live) {
        let left_s = self.end_us.saturating_sub(now_us()) / 1_000_000;
        let text = format!(
            "{} streams  {} likes  {} comments  {} messages  {} deliveries  {} errors",
            status.ready,
            live.likes.load(Relaxed),
            live.comments.load(Relaxed),
            live.messages.load(Relaxed),
            status.received,
            live.errors.load(Relaxed)
        );
        if self.terminal {
            self.bar.set_prefix(phase);
            self.bar.set_position(self.bar.length().unwrap_or(0).saturating_sub(left_s));
            self.bar.set_message(text);
        } else if self.logged.get().elapsed() >= LOG_EVERY {
            self.logged.set(Instant::now());
            eprintln!("{phase}: {text}");
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}
