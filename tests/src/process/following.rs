//! Whoever follows the status of a running program, so that a test can wait until that is as it should be.

use std::{marker::PhantomData, process::Command, time::Duration};

use serde::de::DeserializeOwned;

use super::program::Program;

/// A program that prints a status again and again, as lines of JSON. Ended when dropped.
pub struct Following<S> {
    program: Program,
    _status: PhantomData<S>,
}

impl<S: DeserializeOwned> Following<S> {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self { program: Program::start(command), _status: PhantomData }
    }

    /// Waits until the newest status is like this, and gives it.
    ///
    /// # Panics
    /// If it does not come to be in time.
    pub fn status(&self, patience: Duration, is_so: impl Fn(&S) -> bool) -> S {
        let read = |line: &str| serde_json::from_str(line).expect("a status is JSON");
        read(&self.program.last_line(patience, |line| is_so(&read(line))))
    }
}
