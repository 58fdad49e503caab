//! Everything that is not the latency of one no-op: throughput, memory, many at once, the price of a
//! lease's check.

use std::fs;
use std::hint::black_box;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::Signer as _;
use olb_lease::{
    Audience, Cti, Digest, Epoch, LeaseClaims, LeaseIssuer, PlanDigest, RawLease, SigningKey,
    VerdictDigest,
};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::latency::{exec_words, step};
use crate::runner::{self, Burst, Step};
use crate::stats::median;

/// Bytes of a large output.
const LARGE_BYTES: u64 = 256 << 20;
/// Leases that are presented at the same moment.
const AT_ONCE: usize = 200;
/// How long a client does not read.
const UNREAD: Duration = Duration::from_secs(10);
/// Signature checks per sample.
const CHECKS: u32 = 200;

/// Measures everything, each figure beside what it is compared with.
///
/// # Errors
/// A command did not end as it has to.
pub fn measure(bed: &Bed, samples: usize) -> Result<Value, String> {
    Ok(json!({
        "idle_resident_kib": idle(bed),
        "large_stdout": large_stdout(bed, samples)?,
        "unread_output_growth_kib": unread(bed)?,
        "at_once": at_once(bed)?,
        "lease_check": lease_check(samples),
    }))
}

/// Resident memory of both halves, in KiB.
fn idle(bed: &Bed) -> Value {
    let instance = &bed.instance;
    json!({ "execd": resident_kib(instance.execd_pid()), "brokerd": resident_kib(instance.brokerd_pid()) })
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn start(bed: &Bed, words: &[String]) -> Result<Child, String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).uid(bed.uid()).gid(bed.uid()).current_dir(bed.instance.work());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("OLB_RUNTIME_DIR", bed.instance.runtime());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("{program}: {error}"))
}

/// Bytes per second of a large output that is read through a pipe, with and without helper, in turn.
fn large_stdout(bed: &Bed, samples: usize) -> Result<Value, String> {
    let count = LARGE_BYTES.to_string();
    let head = ["/usr/bin/head", "-c", &count, "/dev/zero"];
    let mut rows: [(&str, Vec<f64>); 3] =
        [("direct", Vec::new()), ("sudo -n", Vec::new()), ("olb exec", Vec::new())];
    for _ in 0..samples {
        for (row, seconds) in &mut rows {
            let words = match *row {
                "direct" => owned(&head),
                "sudo -n" if bed.sudo.is_none() => continue,
                "sudo -n" => owned(&[&["/usr/bin/sudo", "-n"], head.as_slice()].concat()),
                _ => exec_words(bed, &head),
            };
            seconds.push(drain(start(bed, &words)?, LARGE_BYTES)?);
        }
    }
    let [direct, sudo, olb] = rows.map(|(_, seconds)| seconds);
    let rate = |seconds: &[f64]| LARGE_BYTES as f64 / 1e6 / median(seconds.iter().copied());
    let to = |base: &[f64]| median(base.iter().zip(&olb).map(|(base, olb)| base / olb));
    Ok(json!({ "olb_mb_per_s": rate(&olb), "of_sudo": to(&sudo), "of_direct": to(&direct) }))
}

/// Reads all of a command's output; the seconds that took.
fn drain(mut child: Child, expected: u64) -> Result<f64, String> {
    let begun = Instant::now();
    let mut output = child.stdout.take().ok_or("no output")?;
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match output.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => break,
            got => bytes += got as u64,
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() && bytes == expected {
        Ok(begun.elapsed().as_secs_f64())
    } else {
        Err(format!("a large output ended with {status} after {bytes} bytes"))
    }
}

/// By how much both halves grow while a command writes all it can and nobody reads, in KiB.
fn unread(bed: &Bed) -> Result<u64, String> {
    let pids = [bed.instance.execd_pid(), bed.instance.brokerd_pid()];
    let resident = || pids.iter().map(|pid| resident_kib(*pid)).sum::<u64>();
    let words = exec_words(bed, &["/usr/bin/cat", "/dev/zero"]);
    let before = resident();
    let mut child = start(bed, &words)?;
    let (begun, mut most) = (Instant::now(), before);
    while begun.elapsed() < UNREAD {
        thread::sleep(Duration::from_millis(100));
        most = most.max(resident());
    }
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    Ok(most - before)
}

/// Many different leases that are presented at the same moment, and as many commands by sudo and by
/// the floor.
fn at_once(bed: &Bed) -> Result<Value, String> {
    let number = |at: usize| ["at-once".to_owned(), at.to_string()];
    let olb = (0..AT_ONCE).map(|at| {
        let [tag, at] = number(at);
        exec_words(bed, &["/bin/true", &tag, &at])
    });
    let olb = burst_as(bed, olb.collect())?;
    let mut rows = serde_json::Map::new();
    rows.insert("olb exec".into(), json!({ "ran": olb.ran, "per_second": olb.per_second() }));
    let client = bed.floor_client();
    let sudo = bed.sudo.is_some().then(|| ("sudo -n", owned(&["/usr/bin/sudo", "-n"])));
    let floors = bed
        .floors
        .iter()
        .map(|floor| (floor.row, owned(&[&client, floor.socket.to_str().expect("UTF-8")])));
    for (row, words) in sudo.into_iter().chain(floors) {
        let one = |at| [words.as_slice(), &owned(&["/bin/true"]), &number(at)].concat();
        let burst = burst_as(bed, (0..AT_ONCE).map(one).collect())?;
        let of = olb.per_second() / burst.per_second();
        rows.insert(row.into(), json!({ "ran": burst.ran, "olb_of_this": of }));
    }
    Ok(rows.into())
}

fn burst_as(bed: &Bed, commands: Vec<Vec<String>>) -> Result<Burst, String> {
    let steps: Vec<Step> =
        commands.into_iter().map(|argv| Step { argv, ..step(&bed.instance, "", &[]) }).collect();
    runner::burst_as(&bed.program(), bed.uid(), &steps)
}

/// The whole check of a lease against one bare signature check over as many bytes, in turn.
fn lease_check(samples: usize) -> Value {
    let seed = [7; 32];
    let issuer = SigningKey::<LeaseIssuer>::from_seed(&seed.into()).expect("a key");
    let lease = claims().sign(&issuer).expect("a lease");
    let bare = ed25519_dalek::SigningKey::from_bytes(&seed);
    let (public, signature) = (bare.verifying_key(), bare.sign(&lease));
    let whole = || {
        let raw = RawLease::parse(black_box(&lease)).expect("its form");
        black_box(raw.verify(issuer.public()).expect("its signature"));
    };
    let bare = || public.verify_strict(black_box(&lease), &signature).expect("the signature");
    let samples = samples.max(50);
    let pairs: Vec<(f64, f64)> = (0..samples).map(|_| (time(whole), time(bare))).collect();
    json!({
        "of_verify_strict": median(pairs.iter().map(|(whole, bare)| whole / bare)),
        "verify_strict_us": median(pairs.iter().map(|(_, bare)| bare * 1e6)),
    })
}

/// Seconds that one of many calls takes.
fn time(call: impl Fn()) -> f64 {
    let begun = Instant::now();
    (0..CHECKS).for_each(|_| call());
    begun.elapsed().as_secs_f64() / f64::from(CHECKS)
}

fn claims() -> LeaseClaims {
    let digest = Digest([1; 32]);
    LeaseClaims {
        audience: Audience([1; 32]),
        expires_at: 1_800_000_900,
        issued_at: 1_800_000_000,
        cti: Cti([1; 16]),
        argv: digest,
        requester_uid: 1000,
        environment: digest,
        cwd: digest,
        plan: PlanDigest([1; 32]),
        verdict: VerdictDigest([1; 32]),
        epoch: Epoch([1; 16]),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
