//! Why nothing was pulled. Texts are bounded and on one line, and hold no credential.

use std::time::Duration;

use thiserror::Error;

/// Why there is no component.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The text is no reference.
    #[error(
        "`{reference}` is no reference of a registry ({reason}); write oci://HOST/REPOSITORY:TAG, or …@sha256:… behind it"
    )]
    Reference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers.
    #[error("no connection to {host} ({reason})")]
    NoConnection {
        /// Host and port.
        host: String,
        /// What the system or TLS said.
        reason: String,
    },
    /// The connection ended too early.
    #[error("the connection to {host} broke before the {what} was there ({reason})")]
    Broken {
        /// Host and port.
        host: String,
        /// Which part of the work.
        what: &'static str,
        /// What the system said.
        reason: String,
    },
    /// It took too long.
    #[error("{host} did not send the {what} in time: nothing came for {} ms, or it took longer than it may", after.as_millis())]
    TimedOut {
        /// Host and port.
        host: String,
        /// Which part of the work.
        what: &'static str,
        /// The limit that was met.
        after: Duration,
    },
    /// The registry answered with a status that is no success.
    #[error("{host} answered {status} where the {what} was asked for{said}; {advice}")]
    Refused {
        /// Host and port.
        host: String,
        /// Which part of the work.
        what: &'static str,
        /// For example 404.
        status: u16,
        /// The registry's own words, behind a colon; empty where there are none.
        said: String,
        /// What to do.
        advice: String,
    },
    /// The registry sends on to where nobody goes.
    #[error("{host} sends on to {target}, which is not followed: {reason}")]
    Redirected {
        /// Host and port.
        host: String,
        /// Where to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// More came than is taken.
    #[error("{host} sends more than the {bytes_max} bytes that the {what} may have")]
    TooLarge {
        /// Host and port.
        host: String,
        /// Which part of the work.
        what: &'static str,
        /// The limit.
        bytes_max: u64,
    },
    /// Other bytes than were asked for.
    #[error(
        "{host} sent another {what} than the one that was asked for: its digest is {found}, not {expected}"
    )]
    Digest {
        /// Host and port.
        host: String,
        /// Which part of the work.
        what: &'static str,
        /// The digest that was asked for.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// Something else than a component.
    #[error("`{reference}` is no component: {reason}")]
    NoComponent {
        /// The reference.
        reference: String,
        /// What was found.
        reason: String,
    },
    /// It asks for credentials in a way that nobody here knows, or they cannot be found.
    #[error("{host} asks for credentials: {reason}")]
    Credentials {
        /// Host and port.
        host: String,
        /// What is wrong.
        reason: String,
    },
}
