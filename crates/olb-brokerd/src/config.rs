//! The front's configuration: TOML, every limit by its name, nothing unknown.
//!
//! ```toml
//! operands_dir = "/etc/olb/operands.d"
//! [limits]
//! pending_per_uid = 10
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use olb_core::Limits;
use serde::Deserialize;
use thiserror::Error;

/// A configuration file is at most this long, in bytes.
pub(crate) const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not UTF-8.
    #[error("the configuration is not UTF-8 text; rewrite it as TOML")]
    NotText,
    /// Not TOML, or a key that is not known.
    #[error("the configuration is refused: {}", .0.message())]
    Toml(#[from] toml::de::Error),
    /// A limit that is not known.
    #[error(
        "the configuration names the limit {0}, which does not exist; 'olb status' lists those that do"
    )]
    UnknownLimit(String),
    /// A limit that must be at least 1.
    #[error("the configuration sets the limit {0} to 0; it must be at least 1")]
    Zero(String),
}

macro_rules! front_limits {
    ($($(#[$doc:meta])* $name:ident = $default:literal,)*) => {
        /// The limits of connections and of waiting; the unit is in the name, a field without one
        /// is a count. All are at least 1.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct ConnectionLimits { $($(#[$doc])* pub $name: u64,)* }

        impl Default for ConnectionLimits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl ConnectionLimits {
            fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

front_limits! {
    /// Open connections of one uid to one of the sockets.
    connections_per_uid = 64,
    /// Open connections of all requesters.
    connections_total = 512,
    /// Open connections of all approvers; requesters cannot take these places.
    review_connections_total = 128,
    /// How long a request may take to arrive.
    request_read_secs = 10,
    /// How long a client may take to read an answer.
    response_write_secs = 10,
    /// How long looking at files and accounts may take.
    lookup_secs = 5,
    /// Look-ups of one uid at once, the others wait; one that hangs on a strange file system keeps
    /// its place.
    lookups_per_uid = 4,
    /// Messages above 64 KiB, and lists, of one uid at once; the others wait. Bounds the memory that
    /// clients who send or read slowly can hold.
    large_messages_per_uid = 2,
    /// How long the files of a command may take to arrive.
    upload_secs = 60,
    /// Commands of one uid whose files arrive, or are handed to the root half, at once; the others
    /// wait.
    transfers_per_uid = 2,
    /// Commands of all whose files are in memory for the root half at once; the others wait. Each may
    /// take 64 MiB.
    handovers_total = 4,
    /// Bytes of files kept for the open requests of one uid.
    staged_bytes_per_uid = 268_435_456,
    /// Bytes of files kept for the open requests of all.
    staged_bytes_total = 1_073_741_824,
    /// The time limit of a command that asks for none.
    wall_clock_secs = 3600,
}

impl ConnectionLimits {
    /// How long a request may take to arrive.
    #[must_use]
    pub fn request_read(&self) -> Duration {
        Duration::from_secs(self.request_read_secs)
    }

    /// How long a client may take to read an answer.
    #[must_use]
    pub fn response_write(&self) -> Duration {
        Duration::from_secs(self.response_write_secs)
    }

    /// How long the files of a command may take to arrive.
    #[must_use]
    pub fn upload(&self) -> Duration {
        Duration::from_secs(self.upload_secs)
    }

    /// How long looking at files and accounts may take.
    #[must_use]
    pub fn lookup(&self) -> Duration {
        Duration::from_secs(self.lookup_secs)
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Limits of the lifecycle.
    pub requests: Limits,
    /// Limits of connections and waiting.
    pub connections: ConnectionLimits,
    /// Folder with further rules about operands.
    pub operands_dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            requests: Limits::default(),
            connections: ConnectionLimits::default(),
            operands_dir: "/etc/olb/operands.d".into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    operands_dir: Option<PathBuf>,
}

impl Config {
    /// Reads a configuration file's bytes; what it leaves out has its default.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::NotText)?;
        let file: File = toml::from_str(text)?;
        let mut config = Self::default();
        if let Some(folder) = file.operands_dir {
            config.operands_dir = folder;
        }
        for (name, value) in file.limits {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
            if !config.requests.set(&name, value) && !config.connections.set(&name, value) {
                return Err(ConfigError::UnknownLimit(name));
            }
        }
        Ok(config)
    }

    /// Every limit by its name, as `olb status` shows them.
    #[must_use]
    pub fn named(&self) -> Vec<(String, u64)> {
        let all = self.requests.named().into_iter().chain(self.connections.named());
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse(b"").unwrap(), Config::default());
    }

    #[test]
    fn every_limit_that_is_shown_can_be_set() {
        for (name, value) in Config::default().named() {
            let text = format!("[limits]\n{name} = {}\n", value + 1);
            let config = Config::parse(text.as_bytes()).unwrap();
            assert!(config.named().contains(&(name.clone(), value + 1)), "{name}");
        }
    }

    #[test]
    fn unknown_names_and_sections_are_refused() {
        let refused = Config::parse(b"[limits]\npendign = 1\n").unwrap_err();
        assert!(refused.to_string().contains("pendign"), "{refused}");
        assert!(matches!(Config::parse(b"[limit]\n"), Err(ConfigError::Toml(_))));
    }

    #[test]
    fn the_folder_with_rules_can_be_another_one() {
        let config = Config::parse(b"operands_dir = \"/x\"").unwrap();
        assert_eq!(config.operands_dir, PathBuf::from("/x"));
    }

    #[test]
    fn zero_negative_and_non_text_are_refused() {
        assert!(matches!(
            Config::parse(b"[limits]\nlookup_secs = 0"),
            Err(ConfigError::Zero(name)) if name == "lookup_secs"
        ));
        assert!(matches!(Config::parse(b"[limits]\nlookup_secs = -1"), Err(ConfigError::Toml(_))));
        assert!(matches!(Config::parse(b"\xff"), Err(ConfigError::NotText)));
    }
}
