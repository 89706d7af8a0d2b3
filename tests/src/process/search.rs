//! Searching all that a running program has: the files of a directory, and its whole memory, as whoever seizes the
//! machine reads them.
//!
//! What is looked for counts as found where any [`PIECE`] of its bytes stand in a row: a text that was cut somewhere is
//! found by what is left of it. A process is held still while its memory is read. Whoever started it may do that, unless
//! Linux's `kernel.yama.ptrace_scope` is 2 or more; or root.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::Instant,
};

use super::program::{PATIENCE, Program, Signal};

/// Bytes in a row that are no coincidence.
pub const PIECE: usize = 12;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes that are passed over at once where all are zero, as most of a process's memory is.
const PAGE: usize = 4096;
/// Regions of the kernel's that it shows and lets nobody read: clocks, and nothing of the process.
const OF_KERNEL: [&str; 3] = ["[vvar]", "[vvar_vclock]", "[vsyscall]"];

/// What is looked for, by names.
pub struct Search {
    names: Vec<String>,
    pieces: HashMap<[u8; PIECE], usize>,
    /// Which pairs of bytes a piece begins with.
    beginnings: Vec<bool>,
}

/// What was found where.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Names of what was found.
    pub names: BTreeSet<String>,
    /// How many bytes were searched.
    pub bytes: usize,
}

impl Search {
    /// Looks for these bytes.
    ///
    /// # Panics
    /// If one is too short to be no coincidence.
    pub fn new(wanted: &[(&str, &[u8])]) -> Self {
        let (mut names, mut pieces, mut beginnings) = (Vec::new(), HashMap::new(), vec![false; 1 << 16]);
        for (name, bytes) in wanted {
            assert!(bytes.len() >= PIECE, "{name} has {} bytes: they may stand anywhere", bytes.len());
            for piece in bytes.windows(PIECE) {
                let piece: [u8; PIECE] = piece.try_into().expect("a window has that size");
                assert_ne!(piece, [0; PIECE], "{name} has zeros, as all memory");
                pieces.entry(piece).or_insert(names.len());
                beginnings[beginning(&piece)] = true;
            }
            names.push((*name).to_owned());
        }
        Self { names, pieces, beginnings }
    }

    /// What of it stands in the memory of a program.
    ///
    /// # Panics
    /// If the memory cannot be read.
    pub fn memory(&self, program: &Program) -> Found {
        program.signal(Signal::STOP);
        let start = Instant::now();
        while !is_still(program.id()) {
            assert!(start.elapsed() < PATIENCE, "process {} goes on", program.id());
            thread::yield_now();
        }
        let found = self.memory_of(program.id());
        program.signal(Signal::CONT);
        assert!(found.bytes > CHUNK, "a program has more memory than {} bytes", found.bytes);
        found
    }

    /// What of it stands in the files of a directory, or in their names, and in those below it.
    ///
    /// # Panics
    /// If one cannot be read.
    pub fn files(&self, directory: &Path) -> Found {
        let mut found = Found { names: BTreeSet::new(), bytes: 0 };
        self.look_at_files(directory, &mut found);
        assert!(found.bytes > 0, "there is nothing in {}", directory.display());
        found
    }

    fn memory_of(&self, id: u32) -> Found {
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).expect("Linux tells about processes that run");
        let memory = File::open(format!("/proc/{id}/mem"));
        let memory = memory.expect("whoever started a process may read it, where ptrace_scope is 0 or 1; or root");
        let mut found = Found { names: BTreeSet::new(), bytes: 0 };
        for region in maps.lines().filter_map(region) {
            let mut read = vec![0; region.1 - region.0];
            for (at, chunk) in (region.0..).step_by(CHUNK).zip(read.chunks_mut(CHUNK)) {
                let whole = memory.read_exact_at(chunk, at as u64);
                whole.unwrap_or_else(|error| panic!("cannot read {at:x} of process {id}: {error}\n{maps}"));
            }
            self.look_at(&read, &mut found);
        }
        found
    }

    fn look_at_files(&self, directory: &Path, found: &mut Found) {
        for entry in fs::read_dir(directory).expect("the directory is there") {
            let entry = entry.expect("the directory is there");
            self.look_at(entry.file_name().as_encoded_bytes(), found);
            let kind = entry.file_type().expect("it is there");
            if kind.is_dir() {
                self.look_at_files(&entry.path(), found);
            } else if kind.is_file() {
                match fs::read(entry.path()) {
                    Ok(bytes) => self.look_at(&bytes, found),
                    Err(error) if error.kind() == ErrorKind::NotFound => {} // it took another one's place meanwhile
                    Err(error) => panic!("cannot read {}: {error}", entry.path().display()),
                }
            }
        }
    }

    fn look_at(&self, bytes: &[u8], found: &mut Found) {
        found.bytes += bytes.len();
        for at in (0..bytes.len()).step_by(PAGE) {
            let page = &bytes[at..bytes.len().min(at + PAGE)];
            if page.iter().any(|byte| *byte != 0) {
                let (from, to) = (at.saturating_sub(PIECE - 1), bytes.len().min(at + PAGE + PIECE - 1));
                self.look_at_page(&bytes[from..to], found);
            }
        }
    }

    /// A page, with what of its neighbours can be of a piece that begins or ends in it.
    fn look_at_page(&self, bytes: &[u8], found: &mut Found) {
        for (at, two) in bytes.windows(2).enumerate() {
            if self.beginnings[beginning(two)]
                && let Some(name) = bytes.get(at..at + PIECE).and_then(|piece| self.pieces.get(piece))
            {
                found.names.insert(self.names[*name].clone());
            }
        }
    }
}

/// Whether all threads of a process stand still.
fn is_still(id: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("Linux tells about processes that run");
    let mut states = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    states.all(|state| state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// From where to where a process has memory that can be read, by a line of its maps.
fn region(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    words.next().filter(|rights| rights.starts_with('r'))?;
    let of_kernel = words.nth(3).is_some_and(|name| OF_KERNEL.contains(&name));
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    (!of_kernel).then_some((address(from)?, address(to)?))
}

fn beginning(piece: &[u8]) -> usize {
    usize::from(piece[0]) << 8 | usize::from(piece[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_any_piece_of_what_it_looks_for_and_nothing_shorter() {
        let (text, other) = (b"what nobody is to read", [7; 32]);
        let search = Search::new(&[("text", text), ("key", &other)]);
        let found = |bytes: &[u8]| {
            let mut found = Found { names: BTreeSet::new(), bytes: 0 };
            search.look_at(bytes, &mut found);
            found.names.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(found(&[&[0; 100][..], &text[3..3 + PIECE], &[0; 100]].concat()), ["text"]);
        assert_eq!(found(&[&[0; 100][..], &text[3..2 + PIECE], &[0; 100]].concat()), [""; 0]);
        assert_eq!(found(&[&other[..], text].concat()), ["key", "text"]);
        for at in PAGE - PIECE..=PAGE {
            assert_eq!(found(&[&vec![0; at][..], &text[..PIECE], &[0; 2 * PAGE]].concat()), ["text"], "at {at}");
        }
    }

    #[test]
    fn regions_are_those_that_can_be_read() {
        let line = "55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(region(line), Some((0x55d0_c8a0_0000, 0x55d0_c8a2_1000)));
        assert_eq!(region("7f0000000000-7f0000001000 ---p 00000000 00:00 0 "), None);
        assert_eq!(region("7ffd00000000-7ffd00004000 r--p 00000000 00:00 0                  [vvar]"), None);
    }

    #[test]
    fn files_are_searched_with_those_below_and_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/a file of alice's"), b"what she wrote").unwrap();
        let search = Search::new(&[("text", b"what she wrote"), ("name", b"file of alice's"), ("no", &[1; 32])]);
        assert_eq!(search.files(directory.path()).names, ["name".to_owned(), "text".to_owned()].into());
    }
}
