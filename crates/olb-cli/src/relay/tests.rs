use std::io::{Read as _, Write as _};
use std::thread;

use std::os::fd::AsFd as _;

use olb_sys::harden::effective_uid;
use olb_sys::pipe::pipe;
use olb_sys::socket::{ask_for_senders, send_with_fds};

use super::*;

/// The signal mask belongs to a thread and tests share a process: one thread per test.
fn with_signals(test: impl FnOnce(Signals) + Send + 'static) {
    thread::spawn(|| test(Signals::take().unwrap())).join().unwrap();
}

/// A connection whose other side has to be `root_half`.
fn connected_to(root_half: u32) -> (Frames, UnixStream) {
    let (client, broker) = UnixStream::pair().unwrap();
    ask_for_senders(&client).unwrap();
    (Frames::new(client, root_half), broker)
}

/// A connection with the root half, which is this process.
fn connected() -> (Frames, UnixStream) {
    connected_to(effective_uid())
}

fn streams<'a>(outputs: [&'a OwnedFd; 2]) -> ([Stream<'a>; 2], [std::fs::File; 2]) {
    let pipes = [pipe().unwrap(), pipe().unwrap()];
    let [(out_read, out_write), (err_read, err_write)] = pipes;
    let [out, err] = outputs;
    let streams = [Stream::new(out_read, out.as_fd()), Stream::new(err_read, err.as_fd())];
    (streams, [out_write.into(), err_write.into()])
}

#[test]
fn output_arrives_whole_and_is_counted_while_the_reader_is_slow() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let (sink_read, sink_write) = pipe().unwrap();
        let (err_read, err_write) = pipe().unwrap();
        let (mut streams, [mut out, mut err]) = streams([&sink_write, &err_write]);
        let data: Vec<u8> = (0..1_000_003_u32).map(|at| at.to_le_bytes()[0]).collect();
        let want = data.clone();
        let command = thread::spawn(move || {
            err.write_all(b"warning\n").unwrap();
            out.write_all(&data).unwrap();
            drop((out, err));
            let outcome = ClientFrame::Outcome { receipt: vec![7; 300] }.encode();
            (&broker).write_all(&outcome).unwrap();
            broker
        });
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            std::fs::File::from(sink_read).read_to_end(&mut got).unwrap();
            got
        });
        let last = relay(&client, &signals, &mut streams).unwrap();
        assert_eq!(last, Some(ClientFrame::Outcome { receipt: vec![7; 300] }));
        assert_eq!(streams.each_ref().map(Stream::bytes), [want.len() as u64, 8]);
        drop(streams);
        drop((sink_write, err_write, err_read));
        assert_eq!(reader.join().unwrap(), want);
        command.join().unwrap();
    });
}

#[test]
fn signals_reach_the_command_while_nobody_reads_its_output() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let (sink_read, sink_write) = pipe().unwrap();
        let (err_read, err_write) = pipe().unwrap();
        let (mut streams, [mut out, err]) = streams([&sink_write, &err_write]);
        let me = nix::sys::pthread::pthread_self();
        let command = thread::spawn(move || {
            // Far more than the two pipes hold: this thread is stuck in it until the reader comes.
            let flood = thread::spawn(move || out.write_all(&vec![b'x'; 1 << 20]).unwrap());
            nix::sys::pthread::pthread_kill(me, Signal::SIGTERM).unwrap();
            nix::sys::pthread::pthread_kill(me, Signal::SIGUSR2).unwrap();
            let mut bytes = [0; 2];
            (&broker).read_exact(&mut bytes).unwrap();
            bytes.sort_unstable();
            assert_eq!(bytes, [ClientSignal::User2 as u8, ClientSignal::Terminate as u8]);
            let mut got = Vec::new();
            let reader = thread::spawn(move || {
                let sink = std::fs::File::from(sink_read);
                sink.take(1 << 20).read_to_end(&mut got).unwrap();
                got.len()
            });
            flood.join().unwrap();
            drop(err);
            drop(broker);
            assert_eq!(reader.join().unwrap(), 1 << 20);
        });
        assert_eq!(relay(&client, &signals, &mut streams).unwrap(), None);
        command.join().unwrap();
        drop((sink_write, err_read, err_write));
    });
}

#[test]
fn a_sink_that_fails_closes_the_commands_pipe() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let full: OwnedFd =
            std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
        let (mut streams, [mut out, err]) = streams([&full, &full]);
        let command = thread::spawn(move || {
            drop(err);
            while out.write_all(&[b'x'; 4096]).is_ok() {}
            drop(broker);
        });
        assert_eq!(relay(&client, &signals, &mut streams).unwrap(), None);
        command.join().unwrap();
        let lost = streams[0].lost().unwrap();
        assert_eq!(lost.kind(), io::ErrorKind::StorageFull);
        assert!(streams[1].lost().is_none());
    });
}

#[test]
fn the_first_frame_brings_its_descriptors() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let (out, _out) = pipe().unwrap();
        let (err, _err) = pipe().unwrap();
        let started = ClientFrame::Started.encode();
        send_with_fds(&broker, &started, &[out.as_fd(), err.as_fd()]).unwrap();
        let First::Frame(ClientFrame::Started, fds) = first(&client, &signals).unwrap() else {
            panic!("no start");
        };
        assert_eq!(fds.len(), 2);
        drop(broker);
        assert!(matches!(first(&client, &signals).unwrap(), First::End));
    });
}

#[test]
fn a_signal_between_presentation_and_start_goes_to_the_command() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let me = nix::sys::pthread::pthread_self();
        nix::sys::pthread::pthread_kill(me, Signal::SIGINT).unwrap();
        let command = thread::spawn(move || {
            (&broker).write_all(&ClientFrame::Started.encode()).unwrap();
            let mut byte = [0];
            (&broker).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [ClientSignal::Interrupt as u8]);
        });
        let first = first(&client, &signals).unwrap();
        assert!(matches!(first, First::Frame(ClientFrame::Started, _)), "{first:?}");
        // Where the start was seen before the signal, the relay passes it on.
        let null: OwnedFd =
            std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into();
        let (mut streams, outputs) = streams([&null, &null]);
        drop(outputs);
        assert_eq!(relay(&client, &signals, &mut streams).unwrap(), None);
        command.join().unwrap();
    });
}

#[test]
fn a_refusal_after_a_signal_is_still_a_refusal() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let me = nix::sys::pthread::pthread_self();
        nix::sys::pthread::pthread_kill(me, Signal::SIGTERM).unwrap();
        let refusal = olb_exec_api::Refusal::new(olb_exec_api::Reason::Expired, "too late");
        (&broker).write_all(&ClientFrame::Refused(refusal).encode()).unwrap();
        let first = first(&client, &signals).unwrap();
        assert!(matches!(first, First::Frame(ClientFrame::Refused(_), _)), "{first:?}");
    });
}

#[test]
fn whoever_interrupts_twice_is_not_kept_by_a_silent_broker() {
    with_signals(|signals| {
        let (client, _broker) = connected();
        let me = nix::sys::pthread::pthread_self();
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            nix::sys::pthread::pthread_kill(me, signal).unwrap();
        }
        assert!(matches!(first(&client, &signals).unwrap(), First::Silence));
    });
}

#[test]
fn garbage_is_no_frame() {
    with_signals(|signals| {
        let (client, broker) = connected();
        (&broker).write_all(&[0xff; 8]).unwrap();
        let error = first(&client, &signals).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
}

//
#[test]
fn only_a_refusal_may_come_from_another_account() {
    let (pipe_out, _out) = pipe().unwrap();
    let pipes = [pipe_out.as_fd(), pipe_out.as_fd()];
    let started = ClientFrame::Started.encode();
    let outcome = ClientFrame::Outcome { receipt: vec![7; 300] };
    let refusal = olb_exec_api::Refusal::new(olb_exec_api::Reason::Busy, "later");
    let refusal = ClientFrame::Refused(refusal);
    for (root_half, is_right) in [(effective_uid(), true), (effective_uid() + 1, false)] {
        let (frames, mut broker) = connected_to(root_half);
        send_with_fds(&broker, &started, &pipes).unwrap();
        let got = frames.next();
        assert_eq!(got.is_ok(), is_right);
        if let Err(error) = got {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        broker.write_all(&outcome.encode()).unwrap();
        assert_eq!(frames.next().is_ok(), is_right);
        broker.write_all(&refusal.encode()).unwrap();
        assert_eq!(frames.next().unwrap().unwrap().0, refusal);
    }
    // Of what came before the kernel was asked, it knows no sender.
    let (client, broker) = UnixStream::pair().unwrap();
    send_with_fds(&broker, &started, &pipes).unwrap();
    let error = Frames::new(client, effective_uid()).next().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_command_that_ended_is_not_waited_for_although_our_output_is_full() {
    with_signals(|signals| {
        let (client, broker) = connected();
        let (sink_read, sink_write) = pipe().unwrap();
        let (mut streams, [mut out, err]) = streams([&sink_write, &sink_write]);
        // One slot of the pipe for each: it is full, and all that was written is in it.
        for _ in 0..16 {
            out.write_all(&[7; 4096]).unwrap();
            streams[0].step();
        }
        assert_eq!(streams[0].bytes(), 16 * 4096);
        streams[0].step();
        assert!(streams[0].is_open(), "the command may write more");
        drop((out, err, broker));
        assert_eq!(relay(&client, &signals, &mut streams).unwrap(), None);
        assert!(streams.iter().all(|stream| stream.lost().is_none()));
        drop(sink_read);
    });
}

#[test]
fn every_kind_of_output_gets_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, appended) = (dir.path().join("plain"), dir.path().join("appended"));
    std::fs::write(&appended, "").unwrap();
    let data: Vec<u8> = (0..300_007_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let (socket, peer) = UnixStream::pair().unwrap();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        (&peer).read_to_end(&mut got).unwrap();
        got
    });
    let sinks: [OwnedFd; 3] = [
        std::fs::File::create(&plain).unwrap().into(),
        std::fs::File::options().append(true).open(&appended).unwrap().into(),
        socket.into(),
    ];
    for sink in sinks {
        let data = data.clone();
        with_signals(move |signals| {
            let (client, broker) = connected();
            let (mut streams, [mut out, err]) = streams([&sink, &sink]);
            drop((err, broker));
            let command = thread::spawn(move || out.write_all(&data).unwrap());
            assert_eq!(relay(&client, &signals, &mut streams).unwrap(), None);
            command.join().unwrap();
            assert_eq!(streams[0].bytes(), 300_007);
            assert!(streams[0].lost().is_none());
        });
    }
    assert_eq!(std::fs::read(plain).unwrap(), data);
    assert_eq!(std::fs::read(appended).unwrap(), data);
    assert_eq!(reader.join().unwrap(), data);
}

#[test]
fn a_front_that_sends_half_a_frame_holds_nobody_up() {
    with_signals(|signals| {
        let (client, broker) = connected();
        (&broker).write_all(b"O").unwrap();
        let error = first(&client, &signals).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let header = &ClientFrame::Outcome { receipt: vec![7; 300] }.encode()[..20];
        let (client, broker) = connected();
        (&broker).write_all(header).unwrap();
        assert_eq!(client.next().unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}
