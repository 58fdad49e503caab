//! The environment of a command, from the typed `NAME=value` words and the target account. Which
//! words are permitted is decided in one place for all halves: [`olb_lease::environment`].

use std::collections::BTreeMap;

use olb_lease::environment::{Account, EnvironmentError, base, permit};
use thiserror::Error;

use crate::account::Target;

/// Variables by name.
pub(crate) type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// Why `NAME=value` words are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum WordError {
    #[error("a variable is given without a value; write NAME=value before the command")]
    NotAnAssignment,
    #[error("the variable {0} is set twice; set it once")]
    Duplicate(String),
    #[error(transparent)]
    NotPermitted(#[from] EnvironmentError),
}

/// The complete environment, and the typed words within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) complete: Variables,
    pub(crate) words: Variables,
}

impl Environment {
    /// The environment for `target`; a permitted word overrides the base.
    pub(crate) fn new(target: &Target, words: Variables) -> Self {
        let mut complete =
            base(Account { name: &target.name, home: &target.home, shell: &target.shell });
        complete.extend(words.clone());
        Self { complete, words }
    }
}

/// Splits and checks the typed words.
pub(crate) fn words<W: AsRef<[u8]>>(typed: &[W]) -> Result<Variables, WordError> {
    let mut words = Variables::new();
    for word in typed {
        let mut parts = word.as_ref().splitn(2, |byte| *byte == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return Err(WordError::NotAnAssignment);
        };
        permit(name, value)?;
        if words.insert(name.to_vec(), value.to_vec()).is_some() {
            return Err(WordError::Duplicate(name.escape_ascii().to_string()));
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::tests::root;

    #[test]
    fn a_word_overrides_the_base_and_is_kept_as_typed() {
        let environment = Environment::new(&root(), words(&["LANG=de_DE.UTF-8"]).unwrap());
        assert_eq!(environment.complete.get(&b"LANG"[..]), Some(&b"de_DE.UTF-8".to_vec()));
        assert_eq!(environment.complete.get(&b"HOME"[..]), Some(&b"/root".to_vec()));
        assert_eq!(environment.words.len(), 1);
    }

    #[test]
    fn a_value_may_hold_an_equals_sign_only_where_the_rules_allow() {
        let refused = words(&["LANG=a=b"]).unwrap_err();
        assert!(matches!(refused, WordError::NotPermitted(EnvironmentError::Value { .. })));
    }

    #[test]
    fn words_that_are_no_assignments_and_repeated_names_are_refused() {
        assert_eq!(words(&["LANG"]), Err(WordError::NotAnAssignment));
        assert_eq!(words(&["TZ=UTC", "TZ=UTC"]), Err(WordError::Duplicate("TZ".into())));
    }

    #[test]
    fn a_loader_variable_is_refused_by_name() {
        let refused = words(&["TZ=UTC", "LD_PRELOAD=/tmp/x.so"]).unwrap_err();
        assert!(refused.to_string().contains("LD_PRELOAD"), "{refused}");
    }
}
