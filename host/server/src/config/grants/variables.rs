//! `env` of a grant: variables of agents' environments.

use std::borrow::Borrow;
use std::path::Path;

use serde::Deserialize;
use troupe_workflow::Grants;

use crate::config::SecretSource;

/// The name of a variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct VariableName(String);

impl TryFrom<String> for VariableName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match Grants::is_variable_name(&name) {
            true => Ok(Self(name)),
            false => Err(format!(
                "`{}` is no name of a variable: one is not empty, and has neither `=` nor a NUL; write it like `REGION`",
                name.escape_debug()
            )),
        }
    }
}

impl Borrow<str> for VariableName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The value of a variable, or where it lies.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "SecretSource")]
pub(crate) struct VariableEntry(SecretSource);

impl TryFrom<SecretSource> for VariableEntry {
    type Error = String;

    fn try_from(source: SecretSource) -> Result<Self, String> {
        let entry = Self(source);
        if entry.0.is_plain() {
            entry.value()?;
        }
        Ok(entry)
    }
}

impl VariableEntry {
    /// The file that it is read from, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.0.file()
    }

    /// The value itself.
    ///
    /// # Errors
    /// What is missing, or why no environment can hold it.
    pub(crate) fn value(&self) -> Result<String, String> {
        let value = self.0.read()?;
        match value.expose().contains('\0') {
            true => Err("its value holds a NUL, which no variable can".to_owned()),
            false => Ok(value.expose().to_owned()),
        }
    }
}
