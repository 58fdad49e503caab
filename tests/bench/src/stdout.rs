//! A large output: made as fast as a pipe takes it, read from a file, and written to a file.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use olb_e2e_tests::Disk;

use crate::bed::Bed;
use crate::client::{exec_words, owned, start, text};
use crate::figure::{Aim, Figure, Unit};
use crate::part::{Part, Size};
use crate::stats::median;

const BYTES: u64 = 256 << 20;
/// Room for the file that is read and the one that is written, in KiB.
const ROOM_KIB: u32 = 640 << 10;

/// What is run, and where its output goes.
struct Kind {
    name: &'static str,
    command: Vec<String>,
    to_file: bool,
}

/// Each kind without a helper, by sudo and by `olb exec`, in turn.
///
/// # Errors
/// A command did not end as it has to.
pub fn measure(bed: &Bed, size: Size) -> Result<Part, String> {
    let room = Room::make(bed);
    let (count, input) = (BYTES.to_string(), text(&room.input));
    let head = ["/usr/bin/head", "-c", &count, "/dev/zero"];
    let cat = ["/usr/bin/cat", &input];
    let kinds = [
        Kind { name: "256 MiB of zeros into a pipe", command: owned(&head), to_file: false },
        Kind { name: "256 MiB of a file into a pipe", command: owned(&cat), to_file: false },
        Kind { name: "256 MiB of zeros into a file", command: owned(&head), to_file: true },
    ];
    let mut figures = Vec::new();
    for kind in &kinds {
        figures.extend(compare(bed, &room, kind, size.samples)?);
    }
    Ok(figures.into())
}

/// A file system in memory with the file that is read; everybody may look at it.
struct Room {
    input: PathBuf,
    output: PathBuf,
    _disk: Disk,
}

impl Room {
    fn make(bed: &Bed) -> Self {
        let dir = bed.instance.work().join("memory");
        fs::create_dir_all(&dir).expect("a folder");
        let disk = Disk::small(&dir, ROOM_KIB);
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("its mode");
        let (input, output) = (dir.join("input"), dir.join("output"));
        let mut file = File::create(&input).expect("the input");
        let zeros = File::open("/dev/zero").expect("zeros");
        std::io::copy(&mut zeros.take(BYTES), &mut file).expect("its bytes");
        Self { input, output, _disk: disk }
    }
}

fn compare(bed: &Bed, room: &Room, kind: &Kind, samples: usize) -> Result<Vec<Figure>, String> {
    let words: Vec<&str> = kind.command.iter().map(String::as_str).collect();
    let [mut direct, mut sudo, mut olb] = [const { Vec::new() }; 3];
    for _ in 0..samples {
        direct.push(seconds(bed, room, kind, &kind.command)?);
        if bed.sudo.is_some() {
            let words = owned(&[&["/usr/bin/sudo", "-n"], words.as_slice()].concat());
            sudo.push(seconds(bed, room, kind, &words)?);
        }
        olb.push(seconds(bed, room, kind, &exec_words(bed, &words))?);
    }
    let to = |base: &[f64]| median(base.iter().zip(&olb).map(|(base, olb)| base / olb));
    let name = |what: &str| format!("{}, {what}", kind.name);
    let mut figures = Vec::new();
    if !sudo.is_empty() {
        let figure = Figure::of(name("against sudo -n"), Unit::Ratio, to(&sudo));
        figures.push(figure.aimed(Aim::at_least(0.5, 0.9)));
    }
    figures.push(Figure::of(name("against no helper"), Unit::Ratio, to(&direct)));
    let rate = BYTES as f64 / 1e6 / median(olb.iter().copied());
    figures.push(Figure::of(name("olb exec"), Unit::MegabytesPerSecond, rate));
    Ok(figures)
}

/// From the start of a command to its end, all of its output taken.
fn seconds(bed: &Bed, room: &Room, kind: &Kind, words: &[String]) -> Result<f64, String> {
    let failed = |error: std::io::Error| error.to_string();
    let stdout = match kind.to_file {
        true => Stdio::from(File::create(&room.output).map_err(failed)?),
        false => Stdio::piped(),
    };
    let begun = Instant::now();
    let mut child = start(bed, words, stdout)?;
    let piped = match child.stdout.take() {
        Some(mut output) => drain(&mut output).map_err(failed)?,
        None => 0,
    };
    let status = child.wait().map_err(failed)?;
    let taken = begun.elapsed().as_secs_f64();
    let bytes = match kind.to_file {
        true => fs::metadata(&room.output).map_err(failed)?.len(),
        false => piped,
    };
    if status.success() && bytes == BYTES {
        Ok(taken)
    } else {
        Err(format!("{words:?} ended with {status} after {bytes} bytes"))
    }
}

/// Reads all there is; how many bytes that were.
fn drain(output: &mut impl std::io::Read) -> std::io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match output.read(&mut buffer)? {
            0 => return Ok(bytes),
            got => bytes += got as u64,
        }
    }
}
