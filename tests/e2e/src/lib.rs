//! A private instance of the broker for tests: both halves as real processes, requesters and
//! approvers as real uids.
//!
//! The tests run as root. Uids are taken from a range that no distribution assigns, a fresh block
//! for every instance, so that instances do not meet. The binaries come from the build folder that
//! the test itself was built into; `./run test` builds them first.

mod approver;
mod archive;
mod disk;
mod exec_sock;
mod fake_front;
mod fuse;
mod gate;
mod history;
mod home;
mod hostile_client;
mod instance;
mod issuer;
mod judges;
mod olb;
mod oracle;
mod past;
mod peers;
mod plan;
mod platter;
mod process;
mod recovery;
mod scene;
mod terminal;
mod trail;
mod witness;

pub use approver::Approver;
pub use archive::{Archive, exported, forged, recorded, text, written};
pub use disk::{Disk, Injection};
pub use exec_sock::{Client, ExecSock, Replies, Reply, refusal_of};
pub use fake_front::{Caller, fake_front};
pub use fuse::{Fuse, FuseMount};
pub use gate::{Gate, Running};
pub use history::{HISTORY_STEPS, History, HistoryTimes};
pub use home::{APPROVED, Home, OTHER, THIRD, Way, swapping};
pub use hostile_client::{Door, Raw, framed, message, presentation, refused, submit_of, view};
pub use instance::{Half, Instance, Options, is_root};
pub use issuer::{Approved, Issuer};
pub use judges::{Evidence, Judges, Opinion};
pub use olb::Ran;
pub use oracle::{
    Beside, Context, Dump, From, Listed, Names, Oracle, PLAIN, Row, Side, Sudo, Table,
    as_a_service, said, words_of_a_service,
};
pub use peers::Peers;
pub use plan::{Bound, command, plan_for, staged};
pub use platter::{Platter, Remains};
pub use process::{Seeded, children, open_files, resident_kib, wait_until};
pub use recovery::{Figures, Lottery, Recovery, append, lines, lines_of};
pub use scene::{ROOMY, Scene, finished};
pub use terminal::{Session, Terminal};
pub use trail::{Fate, Trail};
pub use witness::Witness;
