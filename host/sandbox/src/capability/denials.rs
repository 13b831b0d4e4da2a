//! What a guest was denied, for the report, and what would have allowed it. A guest may be denied a million times: each
//! denial is kept once, with how often it happened, and of different ones only so many.

use super::files::TooManyOpen;
use crate::host_calls::{Denial, Error};
use crate::outcome::{Denied, FilesLimit};
use crate::state::State;
use serde::{Deserialize, Serialize};

/// Different denials that are kept of a call; the rest is counted for each capability.
const KEPT_MAX: usize = 16;
/// Bytes of a kept message: it holds names that the guest chose.
const MESSAGE_BYTES_MAX: usize = 512;

/// The denials of a call.
#[derive(Debug, Default)]
pub(crate) struct Denials(Vec<Denied>);

/// Something that is not granted and of which the host knows what would grant it, for example what the workflow asked for
/// and the operator did not grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// The capability, for example `llm`.
    pub capability: String,
    /// What of it: a model, a source, a person, a tool.
    pub name: String,
    /// What would grant it.
    pub remedy: String,
}

impl Denials {
    /// Counts a denial.
    pub(crate) fn note(&mut self, capability: &str, message: String) {
        let message = cut(message);
        let same =
            |denied: &&mut Denied| denied.capability == capability && denied.message == message;
        if let Some(denied) = self.0.iter_mut().find(same) {
            denied.count = denied.count.saturating_add(1);
            return;
        }
        let message = if self.0.len() < KEPT_MAX {
            message
        } else {
            let others = format!("and others of `{capability}`");
            if message != others {
                return self.note(capability, others);
            }
            others
        };
        self.0.push(Denied {
            capability: capability.to_owned(),
            message,
            count: 1,
            limit: None,
        });
    }

    /// Counts what a limit denied. There are few of these, so that they are kept beside all others.
    fn note_limit(&mut self, limit: FilesLimit, message: String) {
        self.0.push(Denied {
            capability: limit.code().to_owned(),
            message: cut(message),
            count: 1,
            limit: Some(limit),
        });
    }

    fn take(&mut self) -> Vec<Denied> {
        std::mem::take(&mut self.0)
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - '…'.len_utf8()));
        message.push('…');
    }
    message
}

impl State {
    /// All denials of the call, at its end.
    pub(crate) fn take_denials(&mut self) -> Vec<Denied> {
        let agent = &self.agent;
        if self.files.is_full() {
            let message =
                format!("the agent `{agent}` has written as many files or bytes as it may");
            self.denials.note_limit(FilesLimit::Disk, message);
        }
        match self.files.too_many_open() {
            Some(TooManyOpen::OfCall) => {
                let message = format!("the agent `{agent}` had as many files open as it may");
                self.denials.note_limit(FilesLimit::OpenFiles, message);
            }
            Some(TooManyOpen::OfAll) => {
                let message = format!(
                    "the agent `{agent}` was refused a file, for all agents together had as many open as may be: try again later"
                );
                self.denials.note("files", message);
            }
            None => {}
        }
        self.denials.take()
    }

    /// Denies a request: says what was denied, to whom, and what would allow it, and counts it.
    ///
    /// `asked` is what the guest asked for in words, `name` the same as the operator knows it, and `grant` what would
    /// stand in the workflow's document.
    pub(super) fn deny(
        &mut self,
        capability: &str,
        name: &str,
        (asked, grant): (&str, &str),
    ) -> Error {
        let withheld = self
            .grants
            .withheld
            .iter()
            .find(|it| it.capability == capability && (name.is_empty() || it.name == name));
        let remedy = match withheld {
            Some(withheld) => withheld.remedy.clone(),
            None => {
                let by_workflow =
                    format!("add `\"{capability}\": {grant}` to the agent's `grants`");
                match self.grants.not_left(capability, name) {
                    Some(by_operator) => format!("{by_workflow}, and {by_operator}"),
                    None => by_workflow,
                }
            }
        };
        self.deny_with(capability, asked, &remedy)
    }

    /// Denies a request where it is known what would allow it.
    pub(super) fn deny_with(&mut self, capability: &str, asked: &str, remedy: &str) -> Error {
        let message = format!("the agent `{}` may not use {asked}: {remedy}", self.agent);
        self.denials.note(capability, message.clone());
        Error::Denied(Denial {
            capability: capability.to_owned(),
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_denial_is_kept_once_and_many_different_ones_are_counted() {
        let mut denials = Denials::default();
        for number in 0..1_000 {
            denials.note("llm", format!("model {}", number % 500));
        }
        denials.note("search", "x".repeat(10_000));
        denials.note("search", "y".repeat(10_000));
        let kept = denials.take();
        assert_eq!(kept.len(), KEPT_MAX + 2);
        assert_eq!((kept[0].message.as_str(), kept[0].count), ("model 0", 2));
        assert_eq!(kept[16].count, 1_000 - 2 * 16);
        assert_eq!(
            (kept[17].message.as_str(), kept[17].count),
            ("and others of `search`", 2)
        );
        let mut long = Denials::default();
        long.note("files", "é".repeat(1_000));
        assert!(long.take()[0].message.len() <= MESSAGE_BYTES_MAX);
    }
}
