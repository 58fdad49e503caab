//! People at real terminals: approving by code, and the demo's question.

use olb_e2e_tests::{Approver, Instance, Options, Session, Terminal};

/// A broker with one pending request; its id and code.
struct Asked {
    instance: Instance,
    alice: Approver,
    agent: u32,
    id: String,
    code: String,
}

impl Asked {
    fn new() -> Self {
        let instance = Instance::start();
        let alice = instance.enrol(0);
        let agent = instance.requester(0);
        let asked = instance.olb(agent, &["request", "--json", "--", "id", "-u"]).expect(75).json();
        let [id, code] = ["request_id", "code"].map(|name| asked[name].as_str().unwrap().into());
        Self { instance, alice, agent, id, code }
    }

    fn state(&self) -> String {
        let status = self.instance.olb(self.agent, &["status", &self.id, "--json"]).expect(0);
        status.json()["state"].as_str().unwrap().to_owned()
    }

    fn key(&self) -> String {
        self.instance.key_file(&self.alice.name).to_str().unwrap().to_owned()
    }

    /// `olb approve` by code at this terminal, in front of the question.
    fn at_the_question(&self, terminal: Terminal) -> Session {
        self.at_the_question_of("approve", terminal)
    }

    fn at_the_question_of(&self, command: &str, terminal: Terminal) -> Session {
        let words = [command, "--id", &self.code, "--key", &self.key()];
        let mut session = terminal.start(&self.instance, self.alice.uid, &[], &words);
        session.read_until("id -u");
        session.read_until("[y/N] ");
        session
    }
}

#[test]
fn a_yes_at_the_own_terminal_approves_what_was_shown() {
    let asked = Asked::new();
    let mut session = asked.at_the_question(Terminal::of(asked.alice.uid));
    session.type_in("y\n");
    let (code, screen) = session.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains(&format!("Approved {}", asked.code)), "{screen}");
    assert_eq!(asked.state(), "approved");
    let words = ["exec", "--id", &asked.id, "--", "id", "-u"];
    assert_eq!(asked.instance.olb(asked.agent, &words).expect(0).stdout, "0\n");
}

#[test]
fn anything_but_a_plain_yes_leaves_the_request_open() {
    let asked = Asked::new();
    for answer in ["n\n", "\n", "yes?\n", "don't do it\n", "\u{4}"] {
        let mut session = asked.at_the_question(Terminal::of(asked.alice.uid));
        session.type_in(answer);
        let (code, screen) = session.end();
        assert_eq!(code, Some(75), "{answer:?}: {screen}");
        assert!(screen.contains("not approved"), "{screen}");
        assert_eq!(asked.state(), "pending", "{answer:?}");
    }
}

#[test]
fn what_was_typed_before_the_question_is_no_answer() {
    let asked = Asked::new();
    let terminal = Terminal::of(asked.alice.uid).type_ahead("y\nyes\n");
    let mut session = asked.at_the_question(terminal);
    session.type_in("n\n");
    let (code, screen) = session.end();
    assert_eq!(code, Some(75), "{screen}");
    assert_eq!(asked.state(), "pending");
}

#[test]
fn a_no_by_code_is_asked_about_too() {
    for (command, before, after) in
        [("deny", "pending", "denied"), ("revoke", "approved", "revoked")]
    {
        let asked = Asked::new();
        if before == "approved" {
            asked.instance.olb_as(&asked.alice, &["approve", "--id", &asked.id]).expect(0);
        }
        for (answer, code, state) in [("n\n", 75, before), ("y\n", 0, after)] {
            let mut session = asked.at_the_question_of(command, Terminal::of(asked.alice.uid));
            session.type_in(answer);
            let (ended, screen) = session.end();
            assert_eq!(ended, Some(code), "{command} {answer:?}: {screen}");
            assert_eq!(asked.state(), state, "{command} {answer:?}: {screen}");
        }
    }
}

#[test]
fn a_terminal_that_somebody_else_can_type_into_is_not_asked() {
    let asked = Asked::new();
    let words = ["approve", "--id", &asked.code, "--key", &asked.key()];
    for owner in [asked.agent, asked.instance.stranger()] {
        let terminal = Terminal::of(owner).type_ahead("y\n");
        let (code, screen) = terminal.start(&asked.instance, asked.alice.uid, &[], &words).end();
        assert_eq!(code, Some(77), "{screen}");
        assert!(screen.contains("this terminal belongs to another user"), "{screen}");
        assert!(!screen.contains("[y/N]"), "{screen}");
    }
    assert_eq!(asked.state(), "pending");
}

// As below `su`: the agent's process starts one that becomes the approver.
#[test]
fn below_a_process_of_the_requester_nobody_is_asked() {
    let asked = Asked::new();
    let [agent, alice] = [asked.agent, asked.alice.uid].map(|uid| uid.to_string());
    let become_agent = ["setpriv", "--ruid", &agent, "timeout", "--foreground", "600"];
    let become_alice = ["setpriv", "--reuid", &alice, "--regid", &alice, "--clear-groups"];
    let words = ["approve", "--id", &asked.code, "--key", &asked.key()];
    let terminal = Terminal::of(asked.alice.uid);
    let wrapper = [&become_agent[..], &become_alice].concat();
    let (code, screen) = terminal.start(&asked.instance, 0, &wrapper, &words).end();
    assert_eq!(code, Some(77), "{screen}");
    assert!(screen.contains("started by an account that asks for commands"), "{screen}");
    assert_eq!(asked.state(), "pending");
}

#[test]
fn without_a_terminal_a_code_is_no_way_to_approve() {
    let asked = Asked::new();
    let words = ["approve", "--id", &asked.code];
    let told = asked.instance.olb_as(&asked.alice, &words).expect(64);
    assert!(told.stderr.contains("scripts give the full req_ id"), "{told:?}");
    assert_eq!(asked.state(), "pending");
}

/// The demo up to its question, with `typed` typed before it began.
fn demo(typed: &str) -> (Instance, Session) {
    let instance = Instance::laid_out(Options::default());
    let terminal = Terminal::of(0).type_ahead(typed);
    let mut session = terminal.start(&instance, 0, &[], &["demo"]);
    session.read_until("[y/N] ");
    (instance, session)
}

#[test]
fn the_demo_takes_a_typed_yes_and_runs_once() {
    let (_programs, mut session) = demo("");
    session.type_in("y\n");
    let (code, screen) = session.end();
    assert_eq!(code, Some(0), "{screen}");
    for part in ["Approved", "exit 0", "exit 77: refused, nothing ran", "the folder is removed"] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
}

#[test]
fn the_demo_takes_no_answer_from_before_its_question() {
    let (_programs, mut session) = demo("y\n");
    session.type_in("n\n");
    let (code, screen) = session.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("Nothing ran, and there is no lease"), "{screen}");
}
