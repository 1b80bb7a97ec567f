//! Two programs of ten threads each that do what they like with the same boxes.
//!
//! What each call may come to is listed; at the end everything is as the rows say, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boxlite::{BoxOptions, Code, ExecOptions, Result, Runtime, Status};

use crate::inspect::contradictions;
use crate::kill::Random;
use crate::place::{Place, eventually, finish};
use crate::victim;

const SECONDS: &str = "BOXLITE_CRASH_SECONDS";
const SEED: &str = "BOXLITE_CRASH_SEED";
const THREADS: u64 = 10;
const BOXES: u64 = 6;

/// What they do. A race in which one of these never worked is none: it goes on until each has.
const ACTS: [&str; 6] = ["create", "start", "stop", "remove", "exec", "inspect"];
/// Only guards against a race that never ends.
const PATIENCE: Duration = Duration::from_secs(180);

/// Whether a call may come to that, because of what others do.
fn is_allowed(act: &str, code: Code) -> bool {
    match code {
        Code::Busy | Code::NotFound | Code::AlreadyExists | Code::Stopped | Code::Cancelled => true,
        // A running box is not removed, and a command cannot begin in one that is stopping.
        Code::InvalidState => matches!(act, "remove" | "exec"),
        _ => false,
    }
}

pub fn two_programs_of_ten_threads(seconds: u64) {
    let place = Place::new();
    let home = place.home();
    let seed = u64::from(std::process::id());
    println!("two programs of {THREADS} threads for {seconds} s, seeds {seed} and {}", seed + 1);
    place.run("list", &home);
    let programs: Vec<Child> = (0..2)
        .map(|n| {
            let mut program = place.victim("race", &home);
            program.env(SECONDS, seconds.to_string()).env(SEED, (seed + n).to_string());
            program.spawn().unwrap()
        })
        .collect();
    programs.into_iter().for_each(|program| print!("{}", finish(program)));
    eventually("the machines have ended", || place.processes().is_empty());
    // What a program let go of, the next look finds ended.
    place.run("list", &home);
    assert_eq!(contradictions(&place, &home), [""; 0]);
    place.run("remove all", &home);
    assert_eq!(contradictions(&place, &home), [""; 0]);
    place.is_as_it_was();
}

/// One of the two.
pub fn program() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (until, seed) = (Instant::now() + Duration::from_secs(number(SECONDS)), number(SEED));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let tasks = builder.worker_threads(4).enable_all().build().unwrap();
    let runtime = tasks.block_on(async { victim::open() }).unwrap();
    let runtime = Arc::new(runtime);
    let worked = Arc::new(Mutex::new(BTreeSet::new()));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (runtime, tasks) = (runtime.clone(), tasks.handle().clone());
            let (worked, random) = (worked.clone(), Random(seed * THREADS + thread));
            std::thread::spawn(move || tasks.block_on(meddle(&runtime, until, &worked, random)))
        })
        .collect();
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    for thread in threads {
        for (what, count) in thread.join().unwrap() {
            *total.entry(what).or_default() += count;
        }
    }
    tasks.block_on(async { runtime.shutdown(Duration::ZERO).await }).unwrap();
    let counts: Vec<String> = total.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("  {}", counts.join(", "));
    for act in ACTS {
        assert!(total.contains_key(&format!("{act} ok")), "{act} never worked: {total:?}");
    }
}

/// What one thread does, and how often it came to what.
async fn meddle(
    runtime: &Runtime,
    until: Instant,
    worked: &Mutex<BTreeSet<&str>>,
    mut random: Random,
) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let is_over = || match Instant::now().checked_duration_since(until) {
        Some(late) => late > PATIENCE || worked.lock().unwrap().len() == ACTS.len(),
        None => false,
    };
    while !is_over() {
        let name = format!("b{}", random.below(BOXES));
        let (act, outcome) = match random.below(12) {
            0..2 => ("create", create(runtime, &name).await),
            2..5 => ("start", start(runtime, &name).await),
            5..7 => ("stop", stop(runtime, &name).await),
            7 => ("remove", runtime.remove(&name, random.below(2) == 0).await),
            8..10 => ("exec", exec(runtime, &name).await),
            _ => ("inspect", inspect(runtime, &name).await),
        };
        let came_to = match outcome {
            Ok(()) => {
                worked.lock().unwrap().insert(act);
                "ok".to_owned()
            }
            Err(e) if is_allowed(act, e.code()) => format!("{:?}", e.code()),
            Err(e) => panic!("{act} {name}: {e:?}"),
        };
        *counts.entry(format!("{act} {came_to}")).or_default() += 1;
    }
    counts
}

async fn create(runtime: &Runtime, name: &str) -> Result<()> {
    let mut options = BoxOptions::new(victim::image())?;
    options.name(name)?;
    options.disk_size_mib(64)?;
    options.memory_mib(256)?;
    runtime.create(&options, None).await.map(drop)
}

async fn start(runtime: &Runtime, name: &str) -> Result<()> {
    runtime.get(name).await?.start(None).await
}

async fn stop(runtime: &Runtime, name: &str) -> Result<()> {
    runtime.get(name).await?.stop(Duration::ZERO).await
}

async fn exec(runtime: &Runtime, name: &str) -> Result<()> {
    let argv = ["echo", name].map(String::from).to_vec();
    let output = runtime.get(name).await?.run(&ExecOptions::new(argv)?, 1 << 10).await?;
    // One that was killed when its box was stopped may have said nothing yet.
    if output.status.code == 0 {
        assert_eq!(output.stdout.bytes, format!("{name}\n").as_bytes(), "{:?}", output.status);
    }
    Ok(())
}

async fn inspect(runtime: &Runtime, name: &str) -> Result<()> {
    let info = runtime.get(name).await?.info().await?;
    let legal =
        [Status::Configured, Status::Starting, Status::Running, Status::Stopping, Status::Stopped];
    // A box that the other program had is cut off when that ends, which is not wanted by who holds it.
    assert!(legal.contains(&info.status) || info.error.is_some(), "{info:?}");
    Ok(())
}
