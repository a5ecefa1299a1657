//! Runs many seeds, and makes the story of one that fails as short as may be; see `scripts/simulate --help`.

#![deny(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types)]

mod agenda;
mod batch;
mod clients;
mod database;
mod fabric;
mod faults;
mod hooks;
mod oracle;
mod poster;
mod publisher;
mod run;
mod shrink;
mod store;
mod streams;
mod tokens;
mod viewer;
mod world;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use batch::{Batch, Sum};
use clap::Parser;
use fanfare::runtime::clock::Times;
use fanfare::runtime::planted::{self, Mistake};
use faults::Fault;
use world::Plan;

/// Seeds after which all that is to happen has happened.
const SEEDS_OF_ALL: u64 = 40;

/// Runs a whole cluster in one thread, again and again: real shards, simulated networks, stores, clocks and clients, all of
/// one seed. The same seed is the same story, on any machine.
#[derive(Debug, Parser)]
#[command(name = "scripts/simulate", max_term_width = 100)]
struct Args {
    /// So many seeds [default: 1000, or as many as --time allows]
    #[arg(long)]
    seeds: Option<u64>,
    /// Beginning with this one; `fresh` takes those that the clock gives
    #[arg(long, default_value = "0", value_name = "SEED|fresh")]
    from: String,
    /// No longer than this, such as 10m
    #[arg(long, value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Only these may befall a world: a list such as pause,cut, or `none`
    #[arg(long, value_delimiter = ',')]
    faults: Option<Vec<String>>,
    /// Threads [default: one for each processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Tells all of one seed, which the options below change
    #[arg(long, value_name = "SEED")]
    story: Option<u64>,
    /// A cluster with all that there may be, also where the seed is one of a small one
    #[arg(long)]
    whole: bool,
    /// Clients that do not take part, by number
    #[arg(long, value_delimiter = ',')]
    without_clients: Vec<usize>,
    /// What does not befall the world, by number
    #[arg(long, value_delimiter = ',')]
    without_befalls: Vec<u64>,
    /// How long clients work, and parts fail
    #[arg(long)]
    seconds: Option<u64>,
    #[arg(long, help = "Shards of each machine")]
    shards: Option<usize>,
    #[arg(long)]
    frontends: Option<usize>,
    #[arg(long)]
    dispatchers: Option<usize>,
    #[arg(long)]
    backends: Option<usize>,
    #[arg(long)]
    data_centers: Option<usize>,
    #[arg(long, help = "Clients with streams")]
    viewers: Option<usize>,
    /// Members whose presence is watched
    #[arg(long)]
    members: Option<usize>,
    #[arg(long, help = "Nobody shows a token")]
    without_tokens: bool,
    #[arg(long, help = "Faults come at their usual pace")]
    without_hurry: bool,
    /// Kinds of events that nobody publishes: notes, sums, latest
    #[arg(long, value_delimiter = ',')]
    without_kinds: Vec<String>,
    /// Makes this mistake, such as GapUntold, to see that it is found
    #[arg(long)]
    plant: Option<String>,
}

impl Args {
    /// What this command line makes of a seed.
    fn plan(&self, seed: u64, only: Option<&BTreeSet<Fault>>) -> Plan {
        let mut plan = self.drawn(seed);
        if let Some(only) = only {
            plan.faults.retain(|fault| only.contains(fault));
        }
        plan.without.clients.extend(&self.without_clients);
        plan.without.befalls.extend(&self.without_befalls);
        plan.seconds = self.seconds.unwrap_or(plan.seconds);
        plan.shards = self.shards.unwrap_or(plan.shards);
        plan.frontends = self.frontends.unwrap_or(plan.frontends);
        plan.dispatchers = self.dispatchers.unwrap_or(plan.dispatchers);
        plan.backends = self.backends.unwrap_or(plan.backends);
        plan.data_centers = self.data_centers.unwrap_or(plan.data_centers);
        plan.viewers = self.viewers.unwrap_or(plan.viewers);
        plan.members = self.members.unwrap_or(plan.members);
        plan.tokens &= !self.without_tokens;
        plan.hurries &= !self.without_hurry;
        let left = |kind: &str| !self.without_kinds.iter().any(|without| without == kind);
        plan.kinds.notes &= left("notes");
        plan.kinds.sums &= left("sums");
        plan.kinds.latest &= left("latest");
        plan
    }

    /// What the seed alone makes.
    fn drawn(&self, seed: u64) -> Plan {
        if self.whole { run::whole(seed) } else { run::plan(seed) }
    }

    fn mistake(&self) -> Result<Option<Mistake>, String> {
        let Some(name) = &self.plant else { return Ok(None) };
        let found = planted::ALL.into_iter().find(|mistake| format!("{mistake:?}") == *name);
        found.map(Some).ok_or_else(|| format!("--plant {name}: it must be one of {:?}", planted::ALL))
    }

    /// Those that are allowed, if not all are.
    fn only(&self) -> Result<Option<BTreeSet<Fault>>, String> {
        let Some(names) = &self.faults else { return Ok(None) };
        let one = |name: &String| {
            let found = faults::ALL.into_iter().find(|fault| name_of(*fault) == *name);
            found.ok_or_else(|| {
                let all: Vec<String> = faults::ALL.into_iter().map(name_of).collect();
                format!("--faults {name}: it must be none, or some of {}", all.join(","))
            })
        };
        names.iter().filter(|name| *name != "none").map(one).collect::<Result<_, _>>().map(Some)
    }

    fn from(&self) -> Result<u64, String> {
        match &*self.from {
            // Far from those that are always run, and short enough to be read out.
            "fresh" => Ok(1_000_000 + machine().unix_ms() / 1000 % 100_000_000 * 10),
            from => from.parse().map_err(|_| format!("--from {from}: it must be a number or fresh")),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is for who waits")]
fn machine() -> Times {
    Times::machine()
}

#[expect(clippy::disallowed_methods, reason = "how many worlds run beside each other changes none of them")]
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// As the command line has it.
fn name_of(fault: Fault) -> String {
    format!("{fault:?}").to_lowercase()
}

fn main() -> ExitCode {
    match simulate(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("scripts/simulate: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing is wrong.
fn simulate(args: &Args) -> Result<bool, String> {
    let (mistake, only) = (args.mistake()?, args.only()?);
    let plan = |seed| args.plan(seed, only.as_ref());
    if let Some(seed) = args.story {
        planted::plant(mistake);
        let wrong = tell(&plan(seed));
        return Ok(!wrong);
    }
    let (from, times, begin) = (args.from()?, machine(), machine().instant());
    let seeds = args.seeds.unwrap_or(if args.time.is_some() { u64::MAX - from } else { 1000 });
    let threads = args.threads.unwrap_or_else(cores);
    let on_terminal = std::io::stderr().is_terminal();
    let batch = Batch { from, seeds, threads, plan: &plan, mistake };
    let sum = batch.run(|sum| {
        let took = times.instant().saturating_duration_since(begin);
        if on_terminal {
            let most = args.seeds.map_or(String::new(), |seeds| format!(" of {seeds}"));
            let (hours, failed) = (hours(sum.time), sum.failed.len());
            eprint!(
                "\r{}{most} seeds, {hours:.1} simulated hours in {} s, {failed} failed ",
                sum.seeds,
                took.as_secs()
            );
            let _ = std::io::stderr().flush();
        }
        args.time.is_none_or(|time| took < time)
    });
    if on_terminal {
        eprint!("\r\x1b[K");
    }
    count(&sum, from, times.instant().saturating_duration_since(begin));
    for (seed, wrong) in sum.failed.iter().take(20) {
        println!("seed {seed} failed: {} wrong, such as {}", wrong.len(), wrong[0]);
        println!("  its story: {}", command(args, &plan(*seed)));
    }
    if let Some((seed, _)) = sum.failed.first_key_value() {
        planted::plant(mistake);
        let (plan, begin) = (plan(*seed), times.instant());
        let told = run::run(&plan, false);
        let shortest = shrink::shrink(plan, told);
        let took = times.instant().saturating_duration_since(begin).as_secs();
        println!(
            "the shortest story that still fails, found by {} runs in {took} s: {}",
            shortest.runs,
            command(args, &shortest.plan)
        );
        tell(&shortest.plan);
    }
    let unseen = if args.faults.is_none() && sum.seeds >= SEEDS_OF_ALL { sum.unseen() } else { Vec::new() };
    if !unseen.is_empty() {
        println!("never happened, though it is to: {}", unseen.join(", "));
    }
    Ok(sum.failed.is_empty() && unseen.is_empty())
}

fn hours(time: u64) -> f64 {
    time as f64 / 1e9 / 3600.0
}

/// What was done.
fn count(sum: &Sum, from: u64, took: Duration) {
    let minutes = sum.client_time / 60_000_000_000;
    let hours = hours(sum.time);
    println!(
        "{} seeds from {from} on, trace {:016x}: {minutes} client-minutes (the time of a world, for each client in it), {hours:.1} simulated hours in {:.1} s, {:.0} in an hour; {} failed",
        sum.seeds,
        sum.trace,
        took.as_secs_f64(),
        hours * 3600.0 / took.as_secs_f64().max(0.001),
        sum.failed.len()
    );
    let counts: Vec<String> = sum.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("  {}", counts.join(", "));
}

/// Tells all of a plan. Whether something is wrong.
fn tell(plan: &Plan) -> bool {
    let told = run::run(plan, true);
    println!("{plan:?}");
    told.log.iter().for_each(|line| println!("{line}"));
    if told.wrong.is_empty() {
        println!("nothing is wrong; trace {:016x}", told.trace);
    }
    told.wrong.iter().for_each(|wrong| println!("wrong: {wrong}"));
    !told.wrong.is_empty()
}

/// The command that tells a plan's story.
fn command(args: &Args, plan: &Plan) -> String {
    let (whole, mut words) = (args.drawn(plan.seed), vec![format!("scripts/simulate --story {}", plan.seed)]);
    let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(",") };
    let numbers = |numbers: &mut dyn Iterator<Item = u64>| numbers.map(|number| number.to_string()).collect::<Vec<_>>();
    let mut say = |differs: bool, name: &str, value: String| {
        if differs {
            words.push(format!("--{name} {value}").trim_end().to_owned());
        }
    };
    say(args.whole, "whole", String::new());
    let faults: Vec<String> = plan.faults.iter().map(|fault| name_of(*fault)).collect();
    say(plan.faults != whole.faults, "faults", list(&faults));
    say(plan.seconds != whole.seconds, "seconds", plan.seconds.to_string());
    say(plan.shards != whole.shards, "shards", plan.shards.to_string());
    say(plan.frontends != whole.frontends, "frontends", plan.frontends.to_string());
    say(plan.dispatchers != whole.dispatchers, "dispatchers", plan.dispatchers.to_string());
    say(plan.backends != whole.backends, "backends", plan.backends.to_string());
    say(plan.data_centers != whole.data_centers, "data-centers", plan.data_centers.to_string());
    say(plan.viewers != whole.viewers, "viewers", plan.viewers.to_string());
    say(plan.members != whole.members, "members", plan.members.to_string());
    say(plan.tokens != whole.tokens, "without-tokens", String::new());
    say(plan.hurries != whole.hurries, "without-hurry", String::new());
    let kinds = [
        ("notes", whole.kinds.notes, plan.kinds.notes),
        ("sums", whole.kinds.sums, plan.kinds.sums),
        ("latest", whole.kinds.latest, plan.kinds.latest),
    ];
    let gone: Vec<String> =
        kinds.iter().filter(|(_, was, is)| *was && !is).map(|(name, ..)| (*name).to_owned()).collect();
    say(!gone.is_empty(), "without-kinds", list(&gone));
    let clients = numbers(&mut plan.without.clients.iter().map(|number| *number as u64));
    say(!clients.is_empty(), "without-clients", list(&clients));
    let befalls = numbers(&mut plan.without.befalls.iter().copied());
    say(!befalls.is_empty(), "without-befalls", list(&befalls));
    say(args.plant.is_some(), "plant", args.plant.clone().unwrap_or_default());
    words.join(" ")
}
