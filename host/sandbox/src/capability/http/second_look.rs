//! Holds a request to the grants a second time, in the process that will send it: the first look was in a worker, which a
//! guest may have broken.

use http::{HeaderName, HeaderValue};
use url::Url;

use super::HttpGrant;
use super::exchange::{check_method, is_forbidden, judge};
use super::secrets::{Placeholder, Searched};
use crate::http_exchange::{HTTP_REQUEST_BYTES_MAX, HTTP_RESPONSE_BYTES_MAX, HttpRequest};

/// What a call's requests are held to.
pub(crate) struct SecondLook {
    grant: Option<HttpGrant>,
    agent: String,
    placeholders: Vec<Placeholder>,
}

impl SecondLook {
    pub(crate) fn new(grant: Option<&HttpGrant>, agent: &str, seed: &[u8; 32]) -> Self {
        SecondLook {
            grant: grant.cloned(),
            agent: agent.to_owned(),
            placeholders: Placeholder::all(grant, seed),
        }
    }

    /// The request as it may be sent: what the grants decide about it is decided here. One that is refused already is not
    /// sent, whatever it is.
    ///
    /// # Errors
    /// No worker of ours hands in such a request: why.
    pub(crate) fn check(&self, request: HttpRequest) -> Result<HttpRequest, String> {
        if request.refused.is_some() {
            return Ok(request);
        }
        let url = Url::parse(&request.url).map_err(|error| format!("its address: {error}"))?;
        if url.as_str() != request.url {
            return Err("its address is not written as it is read".to_owned());
        }
        check_method(&request.method).map_err(|fault| fault.message)?;
        for (name, value) in &request.headers {
            let name = HeaderName::from_lowercase(name.as_bytes());
            let is_sent = name.is_ok_and(|name| !is_forbidden(&name));
            if !is_sent || HeaderValue::from_bytes(value).is_err() {
                return Err("a header that is not sent from here".to_owned());
            }
        }
        if u64::try_from(request.body.len()).unwrap_or(u64::MAX) > HTTP_REQUEST_BYTES_MAX {
            return Err("its body is too large".to_owned());
        }
        let searched = Searched {
            url: &url,
            headers: &request.headers,
            body: &request.body,
        };
        let granted = (self.grant.as_ref(), self.placeholders.as_slice());
        let (reach, secrets) =
            judge(granted, &self.agent, &searched).map_err(|fault| fault.message)?;
        Ok(HttpRequest {
            reach,
            secrets,
            response_bytes_max: request.response_bytes_max.min(HTTP_RESPONSE_BYTES_MAX),
            ..request
        })
    }
}
