// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A thread that watches or sends, with a state that others may look at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::priority::hurry;

/// The running thread. It stops when this is dropped.
#[derive(Debug)]
pub struct Worker<T> {
    state: Arc<Mutex<T>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Begins to take turns, each of which says how long to sleep before the next one.
    pub fn start(
        name: &str,
        state: T,
        mut turn: impl FnMut(&mut T) -> Duration + Send + 'static,
    ) -> Result<Self> {
        let state = Arc::new(Mutex::new(state));
        let stop = Arc::new(AtomicBool::new(false));
        let (its, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            hurry();
            while !stopped.load(Ordering::Relaxed) {
                let pause = turn(&mut its.lock().unwrap_or_else(PoisonError::into_inner));
                std::thread::sleep(pause);
            }
        });
        Ok(Self {
            state,
            stop,
            thread: Some(thread.with_context(|| format!("no thread for the {name}"))?),
        })
    }
}

impl<T> Worker<T> {
    /// The state at this moment, whatever happened to who had it before.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more turns.
    pub fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed, and what it should have seen or sent is missing.
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.halt();
    }
}
