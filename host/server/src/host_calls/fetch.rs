//! A guest's HTTP requests: recorded before they are sent, and their responses before the guest has them. Here secrets
//! take the place of their placeholders on the way out, and placeholders that of the secrets on the way back, so that
//! neither the record nor the guest ever has one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::future::join_all;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use troupe_providers::{
    EgressError, EgressLimits, EgressReach, EgressRequest, EgressResponse, Secrecy,
};
use troupe_sandbox::{HttpFault, HttpFaultKind, HttpRequest, HttpResponse, Reach, SecretUse};
use troupe_workflow::{CallKind, CallOutcome, Code, Failure};

use super::GuestHost;
use crate::replay::{Place, hex};
use crate::secret_search::{SecretSearch, TooCostly, masked};

/// Characters of a call's target in the journal.
const TARGET_CHARS_MAX: usize = 300;
/// Headers that ask for a response that cannot be searched.
const UNREADABLE: [&str; 3] = ["accept-encoding", "range", "if-range"];
/// The header that tells a server that it has seen a request before.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A response as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Recorded {
    status: u16,
    /// Each byte of a value is one character.
    headers: Vec<(String, String)>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The body in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl GuestHost {
    /// Sends all of them at once.
    pub(super) async fn fetch_all(
        &self,
        requests: Vec<HttpRequest>,
    ) -> Vec<Result<HttpResponse, HttpFault>> {
        let described: Vec<_> = requests.iter().map(description_of).collect();
        let places = self.places(CallKind::Http, &described).await;
        let asked = requests.into_iter().zip(&places);
        join_all(asked.map(|(request, place)| self.fetch_at(request, place))).await
    }

    async fn fetch_at(
        &self,
        request: HttpRequest,
        place: &Place,
    ) -> Result<HttpResponse, HttpFault> {
        let target = format!("{} {}", request.method, origin_of(&request.url));
        let target = target.chars().take(TARGET_CHARS_MAX).collect();
        let sending = match &request.refused {
            Some(fault) => Err(CallOutcome::Failed(failure_of(fault))),
            None => Ok(self.send(&request, place.position)),
        };
        let outcome = match self.gateway.fetch(target, place, sending).await {
            Ok(outcome) => outcome,
            Err(failure) => CallOutcome::Failed(failure),
        };
        result_of(outcome)
    }

    /// Sends one, with its secrets.
    async fn send(&self, request: &HttpRequest, position: u32) -> CallOutcome {
        let outcome = self
            .send_and_search(request, position)
            .await
            .and_then(|response| {
                let recorded = recorded(response);
                serde_json::to_value(recorded).map_err(|error| {
                    let message = format!("a response cannot be stored: {error}");
                    HttpFault::new(HttpFaultKind::Other, message)
                })
            });
        match outcome {
            Ok(value) => CallOutcome::Answered(value),
            Err(fault) => CallOutcome::Failed(failure_of(&fault)),
        }
    }

    async fn send_with_secrets(
        &self,
        request: &HttpRequest,
        position: u32,
    ) -> Result<EgressResponse, HttpFault> {
        let granting = &self.services.granting;
        let Some(egress) = &granting.egress else {
            let message = "this execution runs offline: no request is sent";
            return Err(HttpFault::new(HttpFaultKind::Denied, message));
        };
        let standard = &granting.limits;
        let asked = &request.timeouts;
        let sooner = |asked: Option<std::time::Duration>, usual| asked.unwrap_or(usual).min(usual);
        let limits = EgressLimits {
            connect: sooner(asked.connect, standard.connect),
            first_byte: sooner(asked.first_byte, standard.first_byte),
            between_bytes: sooner(asked.between_bytes, standard.between_bytes),
            body_bytes_max: request.response_bytes_max.min(standard.body_bytes_max),
            ..*standard
        };
        let message = self.message_of(request, position)?;
        egress
            .send(message, &limits)
            .await
            .map_err(|error| fault_of(&error))
    }

    /// The request as it goes out.
    fn message_of(&self, request: &HttpRequest, position: u32) -> Result<EgressRequest, HttpFault> {
        let invalid = |what: &str| HttpFault::new(HttpFaultKind::InvalidRequest, what);
        let method = request.method.parse();
        let method = method.map_err(|_error| invalid("the method is none"))?;
        let url = request.url.parse();
        let url = url.map_err(|_error| invalid("the address is none"))?;
        let mut message = EgressRequest {
            method,
            url,
            headers: Default::default(),
            body: request.body.clone(),
            reach: match request.reach {
                Reach::Public => EgressReach::Public,
                Reach::Private => EgressReach::OwnNetwork,
                Reach::Literal => EgressReach::Literal,
            },
        };
        for (name, value) in &request.headers {
            let secrets = request
                .secrets
                .iter()
                .filter(|secret| secret.header.as_ref() == Some(name));
            let mut value = value.clone();
            let mut secrecy = Secrecy::Plain;
            for used in secrets {
                if let Some(secret) = self.secrets.get(&used.name) {
                    value = replaced(&value, &used.placeholder, secret.expose());
                    secrecy = Secrecy::Secret;
                }
            }
            message.add_header(name, value, secrecy).map_err(invalid)?;
        }
        if request.secrets.iter().any(|secret| secret.header.is_some()) {
            // A service that repeats what it was sent can be read: its answers are searched for the secret.
            for name in UNREADABLE {
                message.headers.remove(name);
            }
            message
                .add_header(
                    "accept-encoding",
                    Bytes::from_static(b"identity"),
                    Secrecy::Plain,
                )
                .map_err(invalid)?;
        }
        // What was sent when the process died is sent again: a server that knows the key does it once.
        let is_repeatable = matches!(
            request.method.as_str(),
            "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"
        );
        if !is_repeatable && !message.headers.contains_key(IDEMPOTENCY_KEY) {
            let key = idempotency_key(&self.idempotency_key, position);
            message
                .add_header(IDEMPOTENCY_KEY, Bytes::from(key), Secrecy::Plain)
                .map_err(invalid)?;
        }
        Ok(message)
    }

    /// The response with placeholders where a secret of the agent's came back. A header whose name tells one is left out.
    async fn send_and_search(
        &self,
        request: &HttpRequest,
        position: u32,
    ) -> Result<EgressResponse, HttpFault> {
        let response = self.send_with_secrets(request, position).await?;
        check_readable(&request.secrets, &response)?;
        let secrets = request.secrets.iter().filter_map(|used| {
            let secret = Arc::clone(self.secrets.get(&used.name)?);
            Some((secret, used.placeholder.clone()))
        });
        let secrets: Vec<_> = secrets.collect();
        if secrets.is_empty() {
            return Ok(response);
        }
        // A large one takes tenths of a second, which other tasks of the thread would wait for.
        let searching = tokio::task::spawn_blocking(move || without(&secrets, response));
        match searching.await {
            Ok(Ok(searched)) => Ok(searched),
            Ok(Err(TooCostly)) | Err(_) => {
                let message = "the response to a request with a secret cannot be searched for the secret: it is made so that it would take too long";
                Err(HttpFault::new(HttpFaultKind::Protocol, message))
            }
        }
    }
}

/// The response with other texts where secrets were.
fn without(
    secrets: &[(Arc<SecretSearch>, String)],
    response: EgressResponse,
) -> Result<EgressResponse, TooCostly> {
    let secrets = secrets.iter();
    let secrets: Vec<(&SecretSearch, &str)> = secrets
        .map(|(secret, instead)| (secret.as_ref(), instead.as_str()))
        .collect();
    let is_telling = |name: &str| secrets.iter().any(|(secret, _)| secret.is_in_name(name));
    let headers = response.headers.into_iter();
    let headers = headers
        .filter(|(name, _)| !is_telling(name.as_str()))
        .map(|(name, value)| Ok((name, masked(&value, &secrets)?)));
    Ok(EgressResponse {
        status: response.status,
        headers: headers.collect::<Result<_, _>>()?,
        body: masked(&response.body, &secrets)?,
    })
}

/// Tells a service that it has seen a request before, and nothing else: the execution's own key would tell it what the
/// component's random numbers follow from.
fn idempotency_key(key: &str, position: u32) -> String {
    hex(&Sha256::digest(format!(
        "idempotency-key/{key}/http/{position}"
    )))
}

/// Refuses a response in which a secret that was sent could not be found.
fn check_readable(secrets: &[SecretUse], response: &EgressResponse) -> Result<(), HttpFault> {
    let was_sent = secrets.iter().any(|secret| secret.header.is_some());
    let is_encoded = response.headers.iter().any(|(name, value)| {
        name == "content-encoding" && !value.eq_ignore_ascii_case(b"identity")
    });
    if was_sent && (is_encoded || response.status == 206) {
        let message = "the response to a request with a secret is compressed or only a part, and was not asked for as such: it cannot be searched for the secret";
        return Err(HttpFault::new(HttpFaultKind::Protocol, message));
    }
    Ok(())
}

/// Whether a text takes no more room in JSON than in base64.
fn is_short_in_json(text: &str) -> bool {
    let more: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
            0..0x20 => 5,
            _ => 0,
        })
        .sum();
    more <= text.len() / 3
}

/// What makes a request the same as another. Secrets are in it as their placeholders.
fn description_of(request: &HttpRequest) -> serde_json::Value {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name, characters(value)))
        .collect();
    let body = hex(&Sha256::digest(&request.body));
    json!([request.method, request.url, headers, body])
}

/// Scheme, host and port, for the record: a path may hold what is nobody's business.
fn origin_of(url: &str) -> String {
    match url.parse::<troupe_providers::Url>() {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "an address that is none".to_owned(),
    }
}

fn recorded(response: EgressResponse) -> Recorded {
    let headers = response.headers.iter();
    let (text, base64) = match std::str::from_utf8(&response.body) {
        Ok(text) if is_short_in_json(text) => (Some(text.to_owned()), None),
        Ok(_) | Err(_) => (None, Some(BASE64.encode(&response.body))),
    };
    Recorded {
        status: response.status,
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), characters(value)))
            .collect(),
        text,
        base64,
    }
}

/// An outcome for the guest. It is the same whether it came now or is on record.
fn result_of(outcome: CallOutcome) -> Result<HttpResponse, HttpFault> {
    let other = |message: String| HttpFault::new(HttpFaultKind::Other, message);
    let recorded = match outcome {
        CallOutcome::Failed(failure) => return Err(fault_on_record(&failure)),
        CallOutcome::Answered(value) => serde_json::from_value::<Recorded>(value)
            .map_err(|error| other(format!("a recorded response cannot be read: {error}")))?,
    };
    let body = match (recorded.text, recorded.base64) {
        (_, Some(base64)) => BASE64
            .decode(base64)
            .map_err(|error| other(format!("a recorded body cannot be read: {error}")))?,
        (text, None) => text.unwrap_or_default().into_bytes(),
    };
    let headers = recorded.headers.into_iter();
    Ok(HttpResponse {
        status: recorded.status,
        headers: headers
            .map(|(name, value)| (name, bytes_of(&value)))
            .collect(),
        body: Bytes::from(body),
    })
}

/// Bytes as characters of the same numbers: a header's value need not be UTF-8.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn bytes_of(characters: &str) -> Bytes {
    characters
        .chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

fn replaced(bytes: &Bytes, from: &str, to: &str) -> Bytes {
    let finder = memmem::Finder::new(from);
    let mut places = finder.find_iter(bytes).peekable();
    if from.is_empty() || places.peek().is_none() {
        return bytes.clone();
    }
    let mut whole = Vec::with_capacity(bytes.len());
    let mut end = 0;
    for place in places {
        whole.extend_from_slice(&bytes[end..place]);
        whole.extend_from_slice(to.as_bytes());
        end = place + from.len();
    }
    whole.extend_from_slice(&bytes[end..]);
    Bytes::from(whole)
}

fn fault_of(error: &EgressError) -> HttpFault {
    let kind = match error {
        EgressError::Invalid(_) => HttpFaultKind::InvalidRequest,
        EgressError::Prohibited { host, .. } => {
            let message = format!(
                "{error}; an address is granted as it is written, a name in a private network with {{ url = \"…//{host}\", private = true }} in `hosts` of [[grants]]"
            );
            return HttpFault::new(HttpFaultKind::AddressProhibited, message);
        }
        EgressError::NameNotFound { .. } => HttpFaultKind::NameNotFound,
        EgressError::NoConnection { .. } => HttpFaultKind::ConnectionRefused,
        EgressError::ConnectTimedOut { .. } => HttpFaultKind::ConnectionTimeout,
        EgressError::Tls { .. } => HttpFaultKind::Tls,
        EgressError::Broken { .. } => HttpFaultKind::ConnectionTerminated,
        EgressError::ResponseTimedOut { .. } => HttpFaultKind::ResponseTimeout,
        EgressError::HeadersTooLarge => HttpFaultKind::ResponseHeaders,
        EgressError::BodyTooLarge(_) => HttpFaultKind::ResponseBody,
        EgressError::Protocol { .. } => HttpFaultKind::Protocol,
    };
    HttpFault::new(kind, error.to_string())
}

/// A fault as the journal keeps it: its kind is the first word of the message.
fn failure_of(fault: &HttpFault) -> Failure {
    let code = match fault.kind {
        HttpFaultKind::Denied | HttpFaultKind::AddressProhibited => Code::Denied,
        HttpFaultKind::InvalidRequest | HttpFaultKind::RequestBody => Code::InputInvalid,
        HttpFaultKind::ConnectionTimeout | HttpFaultKind::ResponseTimeout => Code::TimedOut,
        HttpFaultKind::NameNotFound
        | HttpFaultKind::ConnectionRefused
        | HttpFaultKind::ConnectionTerminated
        | HttpFaultKind::Tls
        | HttpFaultKind::ResponseHeaders
        | HttpFaultKind::ResponseBody
        | HttpFaultKind::Protocol
        | HttpFaultKind::Other => Code::Unavailable,
    };
    Failure::new(code, fault.to_string())
}

/// The fault of a failure that [`failure_of`] made, or of one of the host's own.
fn fault_on_record(failure: &Failure) -> HttpFault {
    let known = failure
        .message
        .split_once(": ")
        .and_then(|(word, message)| {
            let kinds = HttpFaultKind::ALL.iter();
            let kind = kinds.copied().find(|kind| kind.as_str() == word)?;
            Some(HttpFault::new(kind, message))
        });
    known.unwrap_or_else(|| HttpFault::new(HttpFaultKind::Other, failure.message.clone()))
}

#[cfg(test)]
mod tests {
    use troupe_providers::Secret;

    use super::*;

    #[test]
    fn what_is_recorded_is_what_was_there() {
        for body in [&b"text"[..], b"", b"\xff\xfe\0", b"\x01\x01\x01"] {
            let response = EgressResponse {
                status: 418,
                headers: vec![("x-name".parse().unwrap(), Bytes::from_static(b"\xe9\x01 v"))],
                body: Bytes::from_static(body),
            };
            let value = serde_json::to_value(recorded(response.clone())).unwrap();
            let back = result_of(CallOutcome::Answered(value)).unwrap();
            assert_eq!((back.status, &back.body), (response.status, &response.body));
            assert_eq!(back.headers[0].1, response.headers[0].1);
        }
        for kind in HttpFaultKind::ALL {
            let fault = HttpFault::new(kind, "a: b");
            let back = result_of(CallOutcome::Failed(failure_of(&fault)));
            assert_eq!(back, Err(fault));
        }
        let own = Failure::new(Code::Cancelled, "the execution is gone");
        let back = result_of(CallOutcome::Failed(own)).unwrap_err();
        assert_eq!(back.kind, HttpFaultKind::Other);
    }

    #[test]
    fn a_secret_is_in_no_part_of_a_response() {
        let search = |secret: &str| Arc::new(SecretSearch::new(Secret::new(secret)).unwrap());
        let (secret, word) = (
            search("Ab/cd+ef==Gh/ij+"),
            search("Of-Letters-And-Digits-7"),
        );
        let header = |name: &str, value: &'static str| {
            (name.parse().unwrap(), Bytes::from_static(value.as_bytes()))
        };
        let response = EgressResponse {
            status: 302,
            headers: vec![
                header("location", "/next?t=Ab/cd%2Bef%3D%3DGh/ij%2B&u=1"),
                header("x-user", "Basic dTpBYi9jZCtlZj09R2gvaWor"),
                header("x-of-letters-and-digits-7", "left out"),
                header("x-plain", "as it was"),
            ],
            body: Bytes::from_static(br"see Ab\/cd\u002bef==Gh\/ij+"),
        };
        let response = without(
            &[(secret, "{{S}}".to_owned()), (word, "{{W}}".to_owned())],
            response,
        )
        .unwrap();
        let shown: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", characters(value)))
            .collect();
        assert_eq!(
            shown,
            [
                "location: /next?t={{S}}&u=1",
                "x-user: Basic dT{{S}}",
                "x-plain: as it was"
            ]
        );
        assert_eq!(response.body, "see {{S}}");
    }

    #[test]
    fn a_response_that_cannot_be_searched_is_refused() {
        let secret = |header: Option<&str>| SecretUse {
            name: "key".to_owned(),
            placeholder: "{{P}}".to_owned(),
            header: header.map(str::to_owned),
        };
        let response = |status, encoding: &'static str| EgressResponse {
            status,
            headers: vec![(
                "content-encoding".parse().unwrap(),
                Bytes::from_static(encoding.as_bytes()),
            )],
            body: Bytes::new(),
        };
        let sent = [secret(Some("authorization"))];
        assert!(check_readable(&sent, &response(200, "identity")).is_ok());
        assert!(check_readable(&sent, &response(200, "gzip")).is_err());
        assert!(check_readable(&sent, &response(206, "identity")).is_err());
        assert!(check_readable(&[secret(None)], &response(206, "gzip")).is_ok());
    }

    #[test]
    fn every_occurrence_is_replaced() {
        let replace =
            |text: &'static str| replaced(&Bytes::from_static(text.as_bytes()), "ab", "c");
        assert_eq!(replace("abxabab"), "cxcc");
        assert_eq!(replace("x"), "x");
    }
}
