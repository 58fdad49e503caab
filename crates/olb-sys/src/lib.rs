//! Safe wrappers over the Linux kernel: the one crate of the workspace that contains unsafe code.
//!
//! Everything else asks this crate for a peer's credentials, a checked path, a pipe or a process,
//! and gets owned values that cannot leak a descriptor or reap a stranger. The unsafe blocks live
//! in the few modules marked below, each block with the reason why it is sound.
//!
//! Linux only (5.11 or newer: `openat2`, `close_range`, pidfds), 64-bit `x86_64` and `aarch64`.

pub mod account;
#[allow(unsafe_code, reason = "adopts the descriptors systemd passed")]
mod activation;
#[allow(unsafe_code, reason = "runs between clone and execve, raw system calls only")]
mod child;
pub mod clock;
pub mod crash;
pub mod file;
mod getent;
pub mod harden;
mod limits;
pub mod memfd;
pub mod operand;
pub mod other;
pub mod path;
pub mod peer;
pub mod pipe;
pub mod poll;
pub mod process;
#[allow(unsafe_code, reason = "system calls that nix does not wrap")]
mod raw;
pub mod socket;
#[allow(unsafe_code, reason = "clone on an own stack")]
pub mod spawn;
#[cfg(test)]
#[allow(unsafe_code, reason = "tests act as other users and set attributes")]
mod testing;
mod walk;
