//! What a box does and takes: counted as its streams pass by, and read from the processes.

use std::fs;
use std::time::{Duration, Instant};

use boxlite_protocol::message::{Stage, Stats};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// Samples of the processor's time that are nearer to each other than this say nothing: it is counted
/// in hundredths of a second.
const APART: Duration = Duration::from_millis(200);

pub struct Meter {
    machine: u32,
    stages: Vec<Stage>,
    commands: u64,
    exec_errors: u64,
    bytes_sent: u64,
    bytes_received: u64,
    /// When the machine's processor time was looked at, and what it was.
    last: Option<(Instant, Duration)>,
    cpu_percent: f64,
}

impl Meter {
    /// For a machine that runs as this process.
    pub fn new(machine: u32) -> Meter {
        Meter {
            machine,
            stages: Vec::new(),
            commands: 0,
            exec_errors: 0,
            bytes_sent: 0,
            bytes_received: 0,
            last: None,
            cpu_percent: 0.0,
        }
    }

    /// Notes how long the box took to start.
    pub fn started_in(&mut self, stages: Vec<Stage>) {
        self.stages = stages;
    }

    /// A command was started, or could not be.
    pub fn command(&mut self, started: bool) {
        *(if started { &mut self.commands } else { &mut self.exec_errors }) += 1;
    }

    /// Bytes went to a command's stdin.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
    }

    /// Bytes came of a command's output.
    pub fn received(&mut self, bytes: u64) {
        self.bytes_received += bytes;
    }

    pub fn read(&mut self) -> Stats {
        let own = std::process::id();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let machine = Process::of(self.machine);
        self.look(machine.as_ref());
        Stats {
            commands: self.commands,
            exec_errors: self.exec_errors,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            cpu_percent: self.cpu_percent,
            machine_cpu_ms: machine.map_or(0, |p| millis(p.cpu)),
            supervisor_cpu_ms: Process::of(own).map_or(0, |p| millis(p.cpu)),
            machine_memory: memory(self.machine),
            supervisor_memory: memory(own),
            stages: self.stages.clone(),
        }
    }

    /// How busy the machine was since the last look, at first since its process began.
    fn look(&mut self, machine: Option<&Process>) {
        let Some(machine) = machine else { return };
        let now = Instant::now();
        let (before, elapsed) = match self.last {
            Some((then, _)) if now - then < APART => return,
            Some((then, cpu)) => (cpu, now - then),
            None => (Duration::ZERO, machine.age),
        };
        self.last = Some((now, machine.cpu));
        let busy = machine.cpu.saturating_sub(before).as_secs_f64();
        self.cpu_percent = 100.0 * busy / elapsed.as_secs_f64().max(0.01);
    }
}

/// What `/proc` says of a process.
struct Process {
    /// The processor's time that it has used.
    cpu: Duration,
    age: Duration,
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Its name, in parentheses, may be anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let cpu = ticks(field(14)?.saturating_add(field(15)?));
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Some(Process { cpu, age: now.saturating_sub(ticks(field(22)?)) })
    }
}

fn ticks(count: u64) -> Duration {
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1).cast_unsigned();
    Duration::from_millis(count.saturating_mul(1000) / rate)
}

/// The memory of a process in bytes: what is its own, and its share of what it shares; where the host
/// does not tell that, all that it has in memory.
fn memory(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let share = rollup.as_deref().and_then(|text| kibibytes(text, "Pss:"));
    let whole = || kibibytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:");
    share.or_else(whole).unwrap_or(0).saturating_mul(1024)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_is_counted() {
        let mut meter = Meter::new(std::process::id());
        meter.command(true);
        meter.command(true);
        meter.command(false);
        meter.sent(5);
        meter.received(7);
        meter.received(8);
        let stats = meter.read();
        let counts = (stats.commands, stats.exec_errors, stats.bytes_sent, stats.bytes_received);
        assert_eq!(counts, (2, 1, 5, 15));
    }

    #[test]
    fn the_processes_are_read() {
        let pid = std::process::id();
        assert!(memory(pid) > 1 << 20);
        let began = Instant::now();
        while Process::of(pid).unwrap().cpu < Duration::from_millis(50) {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        let mut meter = Meter::new(pid);
        let stats = meter.read();
        assert!(stats.machine_cpu_ms >= 50 && stats.cpu_percent > 0.0);
        assert_eq!(memory(u32::MAX), 0);
        assert_eq!(Meter::new(u32::MAX).read().machine_cpu_ms, 0);
    }

    #[test]
    fn the_processor_is_as_busy_as_it_was_between_two_looks() {
        let mut meter = Meter::new(1);
        let process =
            |cpu, age| Process { cpu: Duration::from_secs(cpu), age: Duration::from_secs(age) };
        meter.look(Some(&process(5, 10)));
        assert_eq!(meter.cpu_percent, 50.0);
        // Too early to say anything else.
        meter.look(Some(&process(6, 10)));
        assert_eq!(meter.cpu_percent, 50.0);
        meter.last = Some((Instant::now() - Duration::from_secs(4), Duration::from_secs(5)));
        meter.look(Some(&process(11, 14)));
        assert!((149.0..=150.0).contains(&meter.cpu_percent), "{}", meter.cpu_percent);
    }
}
