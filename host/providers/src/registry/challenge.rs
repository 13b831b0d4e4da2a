//! How a registry asks for credentials, and what it is shown then. Pure. Only what a registry itself says counts, never
//! what a host says to which it sent on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::http::is_loopback;
use crate::secret::Secret;
use crate::text;

/// What to show a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name, and a password or a token in its place.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// What some registries give at a sign-in: it is changed into a token for each pull.
    IdentityToken(Secret),
}

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The credentials themselves.
    Basic,
    /// A token, which another service may give.
    Bearer { realm: Url, service: Option<String> },
}

/// A token to be asked for.
pub(super) struct TokenWish {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    /// Always our own: to read this repository, whatever the registry would like.
    pub(super) scope: String,
}

/// What a registry is shown with each request, and what no message may repeat.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    pub(super) header: Option<HeaderValue>,
    secrets: Vec<Secret>,
}

impl Shown {
    /// A name and a password.
    pub(super) fn basic(credentials: &Credentials) -> Result<Self, String> {
        let Credentials::Password { user, password } = credentials else {
            return Err(
                "it takes a name and a password, and Docker's configuration has an identity token for it"
                    .to_owned(),
            );
        };
        let encoded = Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())));
        let header = header("Basic", &encoded)?;
        Ok(Self {
            header: Some(header),
            secrets: vec![encoded, password.clone()],
        })
    }

    /// A token; what it was got with is not repeated either.
    pub(super) fn token(token: Secret, mut others: Self) -> Result<Self, String> {
        let header = header("Bearer", &token)?;
        others.secrets.push(token);
        Ok(Self {
            header: Some(header),
            secrets: others.secrets,
        })
    }

    /// Only what no message may repeat.
    pub(super) fn unseen(secret: Secret) -> Self {
        Self {
            header: None,
            secrets: vec![secret],
        }
    }

    /// Text of a server for a message: bounded, on one line, without what it was shown.
    pub(super) fn clean(&self, text: &str) -> String {
        let scrubbed = self
            .secrets
            .iter()
            .fold(text.to_owned(), |text, secret| secret.scrub(&text));
        text::one_line(&scrubbed)
    }
}

fn header(scheme: &str, secret: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {}", secret.expose()))
        .map_err(|_invalid| "no HTTP header can carry what it would be shown".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads what a registry at `home` asks for.
///
/// # Errors
/// Nothing that is known here, or a token from where none is fetched.
pub(super) fn parse(headers: &HeaderMap, home: &Url) -> Result<Challenge, String> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut is_basic = false;
    let mut others = Vec::new();
    for text in texts.filter_map(|value| value.to_str().ok()) {
        // A challenge that cannot be read ends the header; those before it count.
        for challenge in http_auth::ChallengeParser::new(text).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let parameter = |name: &str| {
                    let mut all = challenge.params.iter();
                    let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                return Ok(Challenge::Bearer {
                    realm: realm(parameter("realm"), home)?,
                    service: parameter("service"),
                });
            }
            is_basic |= challenge.scheme.eq_ignore_ascii_case("basic");
            others.push(challenge.scheme.to_owned());
        }
    }
    if is_basic {
        return Ok(Challenge::Basic);
    }
    let others = text::one_line(&others.join(", "));
    let found = if others.is_empty() {
        "it does not say how".to_owned()
    } else {
        format!("it takes {others}")
    };
    Err(format!("{found}; only Basic and Bearer are known"))
}

/// Where tokens are given: by TLS, unless registry and service are both on this machine.
fn realm(text: Option<String>, home: &Url) -> Result<Url, String> {
    let text = text.ok_or("its challenge says not where tokens are given")?;
    let shown = text::cut_chars(&text::squeeze(&text), 200);
    let refused = |reason: &str| format!("it names {shown} as what gives tokens, {reason}");
    let url =
        Url::parse(&text).map_err(|error| refused(&format!("which is no address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("which holds a user"));
    }
    let is_local = url.scheme() == "http" && is_loopback(&url) && is_loopback(home);
    if url.scheme() != "https" && !is_local {
        return Err(refused("and nothing is shown to who is not reached by TLS"));
    }
    Ok(url)
}

/// What a token service answers.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in an answer.
pub(super) fn parse_token(body: &[u8]) -> Option<Secret> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = answer.token.filter(|token| !token.is_empty());
    let token = token.or(answer.access_token.filter(|token| !token.is_empty()))?;
    Some(Secret::new(token))
}
