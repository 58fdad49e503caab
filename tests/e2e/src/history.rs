//! The same steps at brokers with a short and with a long past, timed in turn.

use std::fs;
use std::time::{Duration, Instant};

use olb_exec_api::ClientFrame;
use olb_lease::VerdictKind;
use olb_wire::{Request, Response};

use crate::exec_sock::ExecSock;
use crate::hostile_client::{submit_of, view};
use crate::instance::{Half, Instance, Options};
use crate::past::put_past;
use crate::process::resident_kib;
use crate::scene::{ROOMY, Scene};

/// What is timed, in the order of [`HistoryTimes`].
pub const HISTORY_STEPS: [&str; 7] =
    ["submit", "submit again", "list mine", "list all", "show", "approve", "execute"];
/// The times of each step, in the order in which they were taken.
pub type HistoryTimes = [Vec<Duration>; HISTORY_STEPS.len()];

/// A broker with a past.
pub struct History {
    scene: Scene,
    /// What it took to put it there and to start with it, in words.
    pub story: String,
}

impl History {
    /// As many past requests as a list shows: with fewer the lists would be shorter too.
    pub const SHORT: u32 = 256;

    /// An instance with `past` finished requests behind it, at least [`Self::SHORT`].
    pub fn of(past: u32) -> Self {
        assert!(past >= Self::SHORT);
        let options = Options { brokerd: ROOMY.into(), ..Options::default() };
        let mut instance = Instance::with(options);
        let alice = instance.enrol(0);
        let info = ExecSock::of(&instance).info();
        instance.stop_brokerd("TERM");
        instance.stop_execd("TERM");
        let begun = Instant::now();
        put_past(&instance, &alice, &info, past);
        let loaded = begun.elapsed();
        let starts = [Half::Root, Half::Front].map(|half| instance.start_half(half));
        let size = |path: std::path::PathBuf| fs::metadata(path).expect("a database").len() >> 20;
        let story = format!(
            "{past} past requests: ledger.db {} MiB, broker.db {} MiB, put there in {loaded:?}; \
             root half and front start in {starts:?}, with {} and {} KiB",
            size(instance.state().join("ledger.db")),
            size(instance.path("front/broker.db")),
            resident_kib(instance.execd_pid()),
            resident_kib(instance.brokerd_pid()),
        );
        Self { scene: Scene::of(instance, alice), story }
    }

    /// Does and times every step once, with a new command for each `number`.
    pub fn round(&mut self, number: usize, times: &mut HistoryTimes) {
        let scene = &mut self.scene;
        let [submit, again, mine, all, show, approve, execute] = times;
        let wish = submit_of(&scene.instance, &["true", &format!("new {number}")]);
        let asked = view(timed(submit, || scene.agent.submit(wish.clone())));
        assert_eq!(asked.state, "pending");
        view(timed(approve, || scene.decide(VerdictKind::Approve, &asked.plan)));
        let lease = view(timed(again, || scene.agent.submit(wish))).lease.expect("a lease");
        timed(execute, || {
            let (mut client, _out) = scene.started(&lease);
            assert!(matches!(client.frame(), Some((ClientFrame::Outcome { .. }, _))));
        });
        for (door, times) in [(&mut scene.agent, mine), (&mut scene.desk, all)] {
            let list = timed(times, || door.ask(&Request::List { open: false }));
            let length = Self::SHORT as usize;
            assert!(matches!(&list, Response::Requests(list) if list.len() == length));
        }
        let selector = Request::Show { selector: asked.request_id, wait: false };
        view(timed(show, || scene.agent.ask(&selector)));
    }
}

fn timed<T>(into: &mut Vec<Duration>, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = call();
    into.push(begun.elapsed());
    value
}
