//! Values that name a secret rather than hold it: `env:NAME`, `file:PATH`, `cmd:COMMAND`.

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use troupe_providers::Secret;

/// Where a secret comes from. What does not begin with `env:`, `file:` or `cmd:` is the secret itself.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretSource(String);

impl SecretSource {
    /// The secret of an environment variable.
    pub(crate) fn variable(name: &str) -> Self {
        Self(format!("env:{name}"))
    }

    /// A value that is given as it is.
    pub(crate) fn literal(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// The file that it is read from, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.0.strip_prefix("file:").map(Path::new)
    }

    /// Whether it is the secret itself.
    pub(crate) fn is_plain(&self) -> bool {
        !["env:", "file:", "cmd:"]
            .iter()
            .any(|word| self.0.starts_with(word))
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// What is missing, without a word of the secret.
    pub(crate) fn read(&self) -> Result<Secret, String> {
        let secret = if let Some(name) = self.0.strip_prefix("env:") {
            super::environment(name)
                .ok_or_else(|| format!("the environment variable {name} is not set"))?
        } else if let Some(path) = self.0.strip_prefix("file:") {
            std::fs::read_to_string(path)
                .map_err(|error| format!("the file {path} cannot be read: {error}"))?
        } else if let Some(command) = self.0.strip_prefix("cmd:") {
            output_of(command)?
        } else {
            self.0.clone()
        };
        Ok(Secret::new(secret))
    }
}

/// The operator's own command, from the operator's own file.
fn output_of(command: &str) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("a `cmd:` secret's command cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "a `cmd:` secret's command ended with {}",
            output.status
        ));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("a `cmd:` secret is no text: {error}"))
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[a secret]")
    }
}
