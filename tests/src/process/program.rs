//! One running program: its output as it comes, its memory, signals, and its end.
//!
//! Dropped, it is told to end by SIGTERM and then by SIGKILL, also when its test panics. A program counts as ended when
//! nobody holds its standard output and standard error any more; one that closes them and goes on is not for here. One
//! that has panicked fails its test, whatever else it did.

use std::{
    fs,
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// For anything that should take less than a second: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between SIGTERM and SIGKILL.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a panic of Rust's says on standard error.
const PANIC: &str = "panicked at";

/// A program that a test has started. Its drop panics if it has panicked itself.
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// How a program ended, and all that it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// Its exit code; -1 if a signal has ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

#[derive(Default)]
struct Output {
    captured: Mutex<Captured>,
    changed: Condvar,
}

#[derive(Default)]
struct Captured {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: usize,
}

/// Which of the two outputs.
type Place = fn(&mut Captured) -> &mut Vec<u8>;

impl Program {
    /// Starts a program without input, and captures its output.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// Starts a program with this input, and captures its output.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with(command: &mut Command, stdin: Stdio) -> Self {
        let name = format!("{command:?}");
        let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Output::default());
        capture(child.stdout.take().expect("it was asked for"), &output, |captured| &mut captured.stdout);
        capture(child.stderr.take().expect("it was asked for"), &output, |captured| &mut captured.stderr);
        Self { name, child, output }
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end in time.
    pub fn run(command: &mut Command, patience: Duration) -> Ended {
        Self::start(command).wait(patience)
    }

    /// Waits for a whole line with these words in it, on either output.
    ///
    /// # Panics
    /// If the program ends without one, or prints none in time.
    pub fn line(&self, words: &str, patience: Duration) -> String {
        match self.line_or_end(words, patience) {
            Some(line) => line,
            None => panic!("no line with {words:?} from {}", self.described()),
        }
    }

    /// As [`Program::line`], and `None` if the program ends without one.
    ///
    /// # Panics
    /// If neither comes in time.
    pub fn line_or_end(&self, words: &str, patience: Duration) -> Option<String> {
        let mut found = None;
        let settled = self.output.await_until(patience, |captured| {
            found = captured.line(words);
            found.is_some() || captured.ended == 2
        });
        assert!(settled, "after {patience:?} neither an end nor a line with {words:?} from {}", self.described());
        found
    }

    /// Waits until the last whole line of standard output is like this, and gives it.
    ///
    /// # Panics
    /// If the program ends before, or prints none in time.
    pub fn last_line(&self, patience: Duration, is_so: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        self.output.await_until(patience, |captured| {
            found = captured.last_line().filter(|line| is_so(line));
            found.is_some() || captured.ended == 2
        });
        found.unwrap_or_else(|| panic!("after {patience:?} not the line that was waited for from {}", self.described()))
    }

    /// Whether it ends, or prints anything more, within this time.
    pub fn says_more(&self, within: Duration) -> bool {
        let all = |captured: &Captured| (captured.stdout.len(), captured.stderr.len(), captured.ended);
        let before = all(&self.output.lock());
        self.output.await_until(within, |captured| all(captured) != before)
    }

    /// What it has printed on standard error so far.
    pub fn errors(&self) -> String {
        text(&self.output.lock().stderr)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child is ours, and not waited for yet");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(mut self, patience: Duration) -> Ended {
        let ended = self.output.await_until(patience, |captured| captured.ended == 2);
        assert!(ended, "after {patience:?} there is no end of {}", self.described());
        let status = self.child.wait().expect("the child is ours");
        let captured = self.output.lock();
        Ended { status, stdout: text(&captured.stdout), stderr: text(&captured.stderr) }
    }

    /// Sends a signal and waits for the end; says how long that took.
    ///
    /// # Panics
    /// As [`Program::wait`].
    pub fn stop(self, signal: Signal) -> (Ended, Duration) {
        let started = Instant::now();
        self.signal(signal);
        (self.wait(PATIENCE), started.elapsed())
    }

    /// Bytes of memory that it has in use now (the resident set).
    ///
    /// # Panics
    /// If it has ended.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("Linux tells about processes that run");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no memory is told of {}", self.described())) * 1024
    }

    fn end(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            self.output.await_until(LAST_WORDS, |captured| captured.ended == 2); // all of its words are here
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM); // if that fails, the next does not
        if !self.output.await_until(LAST_WORDS, |captured| captured.ended == 2) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        self.output.await_until(LAST_WORDS, |captured| captured.ended == 2);
    }

    fn described(&self) -> String {
        let captured = self.output.lock();
        format!("{}\n--- output\n{}--- errors\n{}", self.name, text(&captured.stdout), text(&captured.stderr))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
        let panicked = self.output.lock().line(PANIC).is_some();
        assert!(thread::panicking() || !panicked, "a thread has panicked in {}", self.described());
    }
}

impl Output {
    /// Whether `condition` comes to hold in time.
    fn await_until(&self, patience: Duration, mut condition: impl FnMut(&mut Captured) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |captured| !condition(captured));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Captured {
    fn last_line(&self) -> Option<String> {
        let text = text(&self.stdout);
        let (lines, _) = text.rsplit_once('\n')?;
        lines.lines().next_back().map(str::to_owned)
    }

    fn line(&self, words: &str) -> Option<String> {
        let whole = |bytes: &[u8]| {
            let text = text(bytes);
            let (lines, _) = text.rsplit_once('\n')?;
            lines.lines().find(|line| line.contains(words)).map(str::to_owned)
        };
        whole(&self.stdout).or_else(|| whole(&self.stderr))
    }
}

fn capture(mut pipe: impl Read + Send + 'static, output: &Arc<Output>, place: Place) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut piece = [0; 64 * 1024];
        while let Ok(read @ 1..) = pipe.read(&mut piece) {
            place(&mut output.lock()).extend_from_slice(&piece[..read]);
            output.changed.notify_all();
        }
        output.lock().ended += 1;
        output.changed.notify_all();
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
