use std::io::{Read as _, Write as _};
use std::thread;

use olb_sys::pipe::pipe;
use olb_sys::socket::send_with_fds;

use super::*;

/// The signal mask belongs to a thread and tests share a process: one thread per test.
fn with_signals(test: impl FnOnce(Signals) + Send + 'static) {
    thread::spawn(|| test(Signals::take().unwrap())).join().unwrap();
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
        let (client, broker) = UnixStream::pair().unwrap();
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
        let want_digest = olb_lease::Digest(olb_lease::sha256(&want));
        let summary = streams[0].summary();
        assert_eq!((summary.bytes, summary.sha256), (want.len() as u64, want_digest));
        assert_eq!(streams[1].summary().bytes, 8);
        drop(streams);
        drop((sink_write, err_write, err_read));
        assert_eq!(reader.join().unwrap(), want);
        command.join().unwrap();
    });
}

#[test]
fn signals_reach_the_command_while_nobody_reads_its_output() {
    with_signals(|signals| {
        let (client, broker) = UnixStream::pair().unwrap();
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
        let (client, broker) = UnixStream::pair().unwrap();
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
        let (client, broker) = UnixStream::pair().unwrap();
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
        let (client, broker) = UnixStream::pair().unwrap();
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
        let (client, broker) = UnixStream::pair().unwrap();
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
        let (client, _broker) = UnixStream::pair().unwrap();
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
        let (client, broker) = UnixStream::pair().unwrap();
        (&broker).write_all(&[0xff; 8]).unwrap();
        let error = first(&client, &signals).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
}
