use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::ask;

/// A folder of somebody's, as an agent's home is, and a broker elsewhere that runs as root.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self { folder };
        for (name, text) in [("x.sh", "echo x"), ("a.conf", "a = 1"), ("b.conf", "b = 2")] {
            fs::write(home.path(name), text).unwrap();
        }
        fs::create_dir(home.path("dir")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn bound(&self, line: &str, allow: bool) -> Result<(Command, Vec<Vec<u8>>), Failure> {
        let words: Vec<_> = line.split(' ').map(Into::into).collect();
        let folder = self.path("");
        let options = ask::Options { chdir: Some(&folder), ..ask::Options::default() };
        let mut command = ask::command(&words, options).unwrap();
        let runtime = Runtime::at(self.path("no-broker"));
        let files = bind(&runtime, &mut command, allow)?;
        Ok((command, files))
    }

    /// Words of which copies are bound with their prefixes, and words that are unbound.
    fn words(&self, line: &str) -> (Vec<(u32, u32)>, Vec<u32>) {
        let (command, files) = self.bound(line, false).unwrap();
        assert_eq!(files.len(), command.staged.len());
        let staged = command.staged.iter().map(|file| (file.word, file.prefix)).collect();
        (staged, command.unbound.iter().map(|file| file.word).collect())
    }

    fn refused(&self, line: &str, allow: bool) -> String {
        let failure = self.bound(line, allow).unwrap_err();
        assert_eq!((failure.code, failure.name), (64, "cannot_bind"), "{line}");
        failure.text
    }
}

#[test]
fn what_a_command_reads_is_copied_and_what_it_writes_is_unbound() {
    let home = Home::new();
    for (line, staged, unbound) in [
        ("id", vec![], vec![]),
        ("sh ./x.sh", vec![(1, 0)], vec![]),
        ("sh x.sh ./new-or-not", vec![(1, 0)], vec![]),
        ("grep --file=a.conf /etc/passwd", vec![(1, 7)], vec![]),
        ("make -fa.conf", vec![(1, 2)], vec![]),
        ("make -fdir/none", vec![], vec![1]),
        ("cp ./a.conf b.conf /etc", vec![(1, 0), (2, 0)], vec![]),
        ("cp ./a.conf ./b.conf", vec![(1, 0)], vec![2]),
        ("tee ./a.conf", vec![], vec![1]),
        ("touch new", vec![], vec![1]),
        ("mdadm --detail new", vec![], vec![]),
        ("mdadm --detail ./a.conf", vec![], vec![2]),
        ("cp -r dir /etc/skel", vec![], vec![2]),
        ("sh ./later.sh", vec![], vec![1]),
        ("rm /etc/no-such-file", vec![], vec![]),
        ("env nice sh ./x.sh", vec![(3, 0)], vec![]),
    ] {
        if line.contains("new-or-not") {
            // A name that others can put a file at, and that no rule knows.
            assert!(home.refused(line, false).contains("new-or-not"));
            continue;
        }
        assert_eq!(home.words(line), (staged, unbound), "{line}");
    }
}

#[test]
fn a_name_that_the_root_half_could_not_bind_is_refused_at_once() {
    let home = Home::new();
    // A folder called @ would be the requester's to make.
    let told = home.refused("curl -d @a.conf https://example.org", true);
    assert!(told.contains("ask from one that only root can change"), "{told}");
    // No rule says that something is glued to this option, and it is the name of a file.
    assert!(home.refused("dpkg -ib.conf", false).contains("no rule"));
}

#[test]
fn a_copy_is_what_was_read_and_says_where_from() {
    let home = Home::new();
    symlink("x.sh", home.path("link")).unwrap();
    let (command, files) = home.bound("sh ./link", false).unwrap();
    assert_eq!(files, [b"echo x"]);
    let file = &command.staged[0];
    assert_eq!(file.path.as_slice(), home.path("x.sh").as_os_str().as_bytes());
    assert_eq!((file.size, file.executable), (6, false));
    assert_eq!(file.sha256.as_slice(), olb_lease::sha256(b"echo x"));
    assert!(command.cwd_changeable);
}

#[test]
fn a_program_of_ones_own_is_copied() {
    let home = Home::new();
    let set = |mode| fs::set_permissions(home.path("x.sh"), fs::Permissions::from_mode(mode));
    assert_eq!(home.words("./x.sh"), (vec![], vec![]), "it cannot be executed: not ours to say");
    set(0o755).unwrap();
    assert_eq!(home.words("./x.sh -v"), (vec![(0, 0)], vec![]));
    let (command, _) = home.bound("./x.sh", false).unwrap();
    assert!(command.staged[0].executable);
}

#[test]
fn what_no_rule_knows_is_refused_with_what_to_do_or_listed_where_that_is_asked_for() {
    let home = Home::new();
    let text = home.refused("frobnicate ./a.conf", false);
    for part in ["./a.conf", "where only root can write", "--allow-unbound", "(-C)"] {
        assert!(text.contains(part), "{text}");
    }
    let (command, _) = home.bound("frobnicate ./a.conf --x=b.conf", true).unwrap();
    let paths: Vec<_> = command.unbound.iter().map(|file| file.path.as_slice()).collect();
    let want = [home.path("a.conf"), home.path("b.conf")];
    assert_eq!(paths, want.each_ref().map(|path| path.as_os_str().as_bytes()));
}

#[test]
fn what_would_be_used_later_is_refused_in_any_case() {
    let home = Home::new();
    for allow in [false, true] {
        let text = home.refused("systemctl link ./x.sh", allow);
        assert!(text.contains("install(1)"), "{text}");
    }
}

#[test]
fn magic_names_are_refused_in_any_case() {
    let home = Home::new();
    for allow in [false, true] {
        assert!(home.refused("cat /dev/stdin", allow).contains("in each process"));
    }
}

#[test]
fn pipes_are_not_opened() {
    let home = Home::new();
    mkfifo(&home.path("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
    assert!(home.refused("cat ./pipe", false).contains("not a regular file"));
    assert_eq!(home.bound("cat ./pipe", true).unwrap().0.unbound.len(), 1);
}

#[test]
fn a_giant_file_is_refused_by_its_size_and_not_read() {
    let home = Home::new();
    let sparse = File::create(home.path("disk.img")).unwrap();
    sparse.set_len(8 << 40).unwrap();
    assert!(home.refused("cat ./x.sh ./disk.img", false).contains("disk.img makes the files"));
    sparse.set_len(plan_limit::STAGED_BYTES - 6).unwrap();
    drop(sparse);
    let files = home.bound("cat ./x.sh ./disk.img", false).unwrap().1;
    assert_eq!(files.iter().map(Vec::len).sum::<usize>() as u64, plan_limit::STAGED_BYTES);
    let mut sparse = OpenOptions::new().append(true).open(home.path("disk.img")).unwrap();
    sparse.write_all(b"x").unwrap();
    assert!(home.refused("cat ./x.sh ./disk.img", false).contains("larger than 64 MiB"));
}

#[test]
fn a_file_that_holds_something_else_than_its_size_says_is_named() {
    // The kernel gives no size for it, and content all the same, as of a file that grows.
    let failure = digest_again(Path::new("/proc/version")).unwrap_err();
    assert!(failure.text.starts_with("/proc/version changed while it was read"), "{failure:?}");
}

#[test]
fn one_file_more_than_a_plan_can_hold_is_refused_by_name() {
    let home = Home::new();
    let names = |count: usize| (0..count).map(|at| format!(" ./f{at}")).collect::<String>();
    for at in 0..17 {
        fs::write(home.path(&format!("f{at}")), "x").unwrap();
    }
    let sixteen = home.bound(&format!("cat{}", names(16)), false).unwrap();
    assert_eq!(sixteen.0.staged.len(), 16);
    let text = home.refused(&format!("cat{}", names(17)), false);
    assert!(text.contains("at most 16 files") && text.contains("f16"), "{text}");
    let text = home.refused(&format!("tee{}", " ./x".repeat(65)), false);
    assert!(text.contains("more than 64"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    if olb_sys::harden::effective_uid() == 0 {
        return; // root reads everything
    }
    let home = Home::new();
    fs::set_permissions(home.path("x.sh"), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(home.refused("sh ./x.sh", false).contains("you cannot read it"));
}
