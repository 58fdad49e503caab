//! The graph of packages: direct edges from `cargo metadata`, what is linked from `cargo tree`.
//!
//! The two differ: metadata also lists optional packages that some feature merely mentions, while
//! the tree is what a build of that one package really links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::repository;

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Linked into the package.
    Normal,
    /// Used by its build script.
    Build,
    /// Used by its tests.
    Dev,
}

/// One package of the graph.
#[derive(Debug)]
struct Package {
    name: String,
    member: bool,
    manifest: PathBuf,
    /// Root files of its library and its programs.
    roots: Vec<PathBuf>,
    dependencies: Vec<(String, Kind)>,
}

/// Packages by the id that Cargo gives them, for the platform the tests run on.
#[derive(Debug)]
pub struct Graph {
    packages: BTreeMap<String, Package>,
}

impl Graph {
    /// Asks Cargo.
    ///
    /// # Panics
    /// Cargo does not answer, or not in the form that its documentation promises.
    #[must_use]
    pub fn load() -> Self {
        let output = cargo(&["metadata", "--format-version=1", "--filter-platform", &platform()]);
        let answer: Value = serde_json::from_slice(&output).expect("cargo prints JSON");
        Self::read(&answer)
    }

    fn read(answer: &Value) -> Self {
        let members: BTreeSet<String> = strings(&answer["workspace_members"]).collect();
        let mut packages: BTreeMap<String, Package> = elements(&answer["packages"])
            .map(|package| {
                let id = text(&package["id"]);
                (id.clone(), read_package(package, members.contains(&id)))
            })
            .collect();
        for node in elements(&answer["resolve"]["nodes"]) {
            let package = packages.get_mut(&text(&node["id"])).expect("a node is a package");
            package.dependencies = elements(&node["deps"]).flat_map(read_dependency).collect();
        }
        Self { packages }
    }

    fn find(&self, name: &str) -> &Package {
        let mut found = self.packages.values().filter(|package| package.name == name);
        found.find(|package| package.member).unwrap_or_else(|| panic!("no member {name}"))
    }

    /// Names of the workspace's own packages.
    #[must_use]
    pub fn members(&self) -> BTreeSet<String> {
        let members = self.packages.values().filter(|package| package.member);
        members.map(|package| package.name.clone()).collect()
    }

    /// Names of what a member depends on directly, for one of these purposes.
    #[must_use]
    pub fn direct(&self, member: &str, kinds: &[Kind]) -> BTreeSet<String> {
        let edges = self.find(member).dependencies.iter();
        let wanted = edges.filter(|(_, kind)| kinds.contains(kind));
        wanted.map(|(id, _)| self.packages[id].name.clone()).collect()
    }

    /// A member's `Cargo.toml`.
    #[must_use]
    pub fn manifest(&self, member: &str) -> &Path {
        &self.find(member).manifest
    }

    /// Root files of a member's library and programs.
    #[must_use]
    pub fn roots(&self, member: &str) -> &[PathBuf] {
        &self.find(member).roots
    }
}

fn read_package(package: &Value, member: bool) -> Package {
    let targets = || elements(&package["targets"]);
    let is = |target: &Value, kind: &str| strings(&target["kind"]).any(|one| one == kind);
    let product = |target: &&Value| is(target, "lib") || is(target, "bin");
    Package {
        name: text(&package["name"]),
        member,
        manifest: text(&package["manifest_path"]).into(),
        roots: targets().filter(product).map(|target| text(&target["src_path"]).into()).collect(),
        dependencies: Vec::new(),
    }
}

fn read_dependency(dependency: &Value) -> impl Iterator<Item = (String, Kind)> {
    let kinds = elements(&dependency["dep_kinds"]);
    kinds.map(|kind| match kind["kind"].as_str() {
        None => (text(&dependency["pkg"]), Kind::Normal),
        Some("build") => (text(&dependency["pkg"]), Kind::Build),
        Some("dev") => (text(&dependency["pkg"]), Kind::Dev),
        Some(other) => panic!("cargo knows a kind of dependency that this test does not: {other}"),
    })
}

/// Names of everything linked into a package, at any distance; itself not among them.
///
/// # Panics
/// Cargo does not answer.
#[must_use]
pub fn linked(package: &str) -> BTreeSet<String> {
    let edges = ["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"];
    let output = cargo(&[&["tree", "--package", package], &edges as &[&str]].concat());
    let tree = String::from_utf8(output).expect("cargo prints text");
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

/// What Cargo prints, offline: what the tests were built from is already here.
fn cargo(arguments: &[&str]) -> Vec<u8> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).args(["--offline", "--locked"]).current_dir(repository());
    let output = command.output().expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?} failed: {errors}");
    output.stdout
}

/// The platform that rustc compiles for here.
fn platform() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc starts");
    let version = String::from_utf8(output.stdout).expect("rustc prints text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("cargo prints a list here").iter()
}

fn strings(value: &Value) -> impl Iterator<Item = String> {
    elements(value).map(text)
}

fn text(value: &Value) -> String {
    value.as_str().expect("cargo prints a text here").to_owned()
}
