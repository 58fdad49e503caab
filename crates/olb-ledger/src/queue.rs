//! The queue of those who call at the same time, and the thread that serves them together.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::job::{Group, Message};
use crate::writer::Writer;

/// A group is at most so many jobs.
const GROUP_MAX: usize = 128;

/// Works until it is told to stop or no handle is left, and closes the database then.
pub(crate) fn serve_queue(writer: &Mutex<Option<Writer>>, queue: &Receiver<Message>) {
    let mut stop = false;
    while !stop {
        let first = match queue.try_recv() {
            Ok(first) => Some(first),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let done = with(writer, Writer::checkpoint_if_due);
                done.and_then(|()| queue.recv().ok())
            }
        };
        let served = first.and_then(|first| {
            with(writer, |writer| {
                let mut group = Vec::new();
                let stop = gather(first, queue, &mut group);
                writer.serve(group);
                stop
            })
        });
        stop = served.unwrap_or(true);
    }
    if let Ok(mut writer) = writer.lock() {
        *writer = None;
    }
}

/// Works with the writer. `None` if it was lost half-way through something, by a panic: then it is
/// never used again.
fn with<T>(writer: &Mutex<Option<Writer>>, work: impl FnOnce(&mut Writer) -> T) -> Option<T> {
    writer.lock().ok()?.as_mut().map(work)
}

/// Adds what waits to the group that `first` begins; true when it is the last one.
fn gather(first: Message, queue: &Receiver<Message>, group: &mut Group) -> bool {
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Job(job) => group.push(job),
            Message::Nudge => {}
            Message::Stop => return true,
        }
        next = if group.len() < GROUP_MAX { queue.try_recv().ok() } else { None };
    }
    false
}
