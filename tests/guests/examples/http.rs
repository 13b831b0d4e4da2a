//! Sends the HTTP requests that its input describes, all of them before it waits for the first, and returns what came.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use serde_json::{Value, json};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::poll;
use wasip2::io::streams::{InputStream, StreamError};

struct Http;

impl Guest for Http {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        let answer = match invocation.action.as_str() {
            "send" => Ok(list(&input).iter().map(start).map(finish).collect()),
            // What a careless agent does: any error is its own failure.
            "send or fail" => finish(start(&input))
                .get("error")
                .map_or(Ok(Value::Null), |error| Err(error.to_string())),
            "send, all started first" => {
                let started: Vec<_> = list(&input).iter().map(start).collect();
                Ok(started.into_iter().map(finish).collect())
            }
            "race a timer" => Ok(race(&input)),
            "wait for an unfinished body" => Ok(wait_unfinished(&input)),
            "leave all half done" => Ok(leave_half_done(&input)),
            "drop responses" => drop_responses(&input),
            "write too much" => Ok(write_too_much(&input)),
            "set headers" => Ok(set_headers(&input)),
            "many headers" => {
                many_headers();
                Ok(Value::Null)
            }
            "long texts" => Ok(long_texts()),
            "variables" => Ok(std::env::vars()
                .map(|(name, value)| json!([name, value]))
                .collect()),
            "send with a secret" => Ok(finish(start(&with_secret(input)))),
            other => Err(format!("unknown: {other}")),
        };
        match answer {
            Ok(value) => Ok(value.to_string()),
            Err(message) => Err(Failure {
                message,
                transient: false,
                details: None,
            }),
        }
    }
}

/// Puts the placeholder of the secret `TOKEN` wherever the input says `$TOKEN`.
fn with_secret(input: Value) -> Value {
    let placeholder = std::env::var("TROUPE_SECRET_TOKEN").unwrap_or_default();
    let escaped = json!(placeholder).to_string();
    let text = input
        .to_string()
        .replace("$TOKEN", escaped.trim_matches('"'));
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// A request that was handed in, or why not.
type Started = Result<FutureIncomingResponse, String>;

fn start(input: &Value) -> Started {
    let headers = Fields::new();
    for (name, value) in pairs(&input["headers"]) {
        let value = value.as_str().unwrap_or_default().as_bytes().to_vec();
        headers
            .append(&name, &value)
            .map_err(|error| format!("the header {name}: {error:?}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let refused = |what: &str| format!("{what} was refused at once");
    request
        .set_method(&method(text(&input["method"])))
        .map_err(|()| refused("the method"))?;
    let scheme = match text(&input["scheme"]) {
        "" | "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request
        .set_scheme(Some(&scheme))
        .map_err(|()| refused("the scheme"))?;
    request
        .set_authority(Some(text(&input["authority"])))
        .map_err(|()| refused("the authority"))?;
    request
        .set_path_with_query(input["path"].as_str())
        .map_err(|()| refused("the path"))?;
    let options = RequestOptions::new();
    let nanoseconds = |field: &str| input[field].as_u64().map(|ms| ms * 1_000_000);
    let _ = options.set_connect_timeout(nanoseconds("connect_ms"));
    let _ = options.set_first_byte_timeout(nanoseconds("first_byte_ms"));
    let _ = options.set_between_bytes_timeout(nanoseconds("between_bytes_ms"));
    let body = request.body().map_err(|()| refused("the body"))?;
    // Written before the request is handed in, or after it.
    let early = input["body_first"] == true;
    if early {
        write(body, text(&input["body"]).as_bytes())?;
        return handle(request, Some(options)).map_err(|error| shown(&error));
    }
    let future = handle(request, Some(options)).map_err(|error| shown(&error))?;
    write(body, text(&input["body"]).as_bytes())?;
    Ok(future)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), String> {
    let stream = body.write().map_err(|()| "no stream".to_owned())?;
    for piece in bytes.chunks(4096) {
        stream
            .blocking_write_and_flush(piece)
            .map_err(|error| format!("{error:?}"))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| shown(&error))
}

fn finish(started: Started) -> Value {
    let result = started.and_then(|future| {
        future.subscribe().block();
        match future.get() {
            Some(Ok(Ok(response))) => Ok(read(response)),
            Some(Ok(Err(error))) => Err(shown(&error)),
            Some(Err(())) => Err("taken already".to_owned()),
            None => Err("not there after waiting".to_owned()),
        }
    });
    result.unwrap_or_else(|error| json!({ "error": error }))
}

fn read(response: IncomingResponse) -> Value {
    let headers = response.headers().entries();
    let headers: Vec<Value> = headers
        .into_iter()
        .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]))
        .collect();
    let status = response.status();
    let mut bytes = Vec::new();
    if let Ok(body) = response.consume() {
        if let Ok(stream) = body.stream() {
            loop {
                match stream.blocking_read(65_536) {
                    Ok(piece) => bytes.extend(piece),
                    Err(StreamError::Closed) => break,
                    Err(error) => return json!({ "error": format!("{error:?}") }),
                }
            }
        }
    }
    let body = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    json!({ "status": status, "headers": headers, "bytes": bytes.len(), "body": body })
}

/// A timer that is due long before the response is: neither outcome may depend on which is faster.
fn race(input: &Value) -> Value {
    let Ok(future) = start(input) else {
        return Value::Null;
    };
    let timer = monotonic_clock::subscribe_duration(1_000_000);
    let response = future.subscribe();
    let ready = poll(&[&timer, &response]);
    json!({ "ready": ready, "there": future.get().is_some() })
}

fn wait_unfinished(input: &Value) -> Value {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(text(&input["authority"])));
    let _body = request.body();
    match handle(request, None) {
        Ok(future) => finish(Ok(future)),
        Err(error) => json!({ "error": shown(&error) }),
    }
}

/// Has in hand a request that is never finished, one that is never waited for, a response that is never taken, and one
/// that is read in part, and ends badly; where its input says so it waits for a response that never comes.
fn leave_half_done(input: &Value) -> Value {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(text(&input["authority"])));
    let body = request.body();
    let stream = body.as_ref().map(OutgoingBody::write);
    if let Ok(Ok(stream)) = &stream {
        let _ = stream.blocking_write_and_flush(&[b'x'; 4096]);
    }
    let unfinished = handle(request, None);
    let untaken = start(input);
    let untaken = untaken.inspect(|future| future.subscribe().block());
    let part = begin_to_read(input);
    let unsent = start(input);
    if input["never"].is_string() {
        finish(start(&json!({ "authority": input["never"] })));
    }
    let held = (
        body.is_ok(),
        unfinished.is_ok(),
        untaken.is_ok(),
        part.is_some(),
        unsent.is_ok(),
    );
    panic!("all in hand: {held:?}");
}

/// A response of which one byte was read, with the stream of the rest.
fn begin_to_read(input: &Value) -> Option<(InputStream, IncomingBody)> {
    let future = start(input).ok()?;
    future.subscribe().block();
    let response = future.get()?.ok()?.ok()?;
    let body = response.consume().ok()?;
    let stream = body.stream().ok()?;
    let read = stream.blocking_read(1).ok()?;
    (read.len() == 1).then_some((stream, body))
}

/// Asks again and again, and drops each response after its first byte.
fn drop_responses(input: &Value) -> ! {
    loop {
        drop(begin_to_read(input));
    }
}

fn write_too_much(input: &Value) -> Value {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_method(&Method::Post);
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(text(&input["authority"])));
    let Ok(body) = request.body() else {
        return Value::Null;
    };
    let stream = body.write();
    let mut written = 0;
    let stopped = loop {
        let Ok(stream) = &stream else { break None };
        match stream.blocking_write_and_flush(&[b'x'; 4096]) {
            Ok(()) => written += 4096,
            Err(_) => break Some(written),
        }
        if written > 32 << 20 {
            break None;
        }
    };
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    let answer = match handle(request, None) {
        Ok(future) => finish(Ok(future)),
        Err(error) => json!({ "error": shown(&error) }),
    };
    json!({ "stopped": stopped, "answer": answer })
}

/// For each name and value what becomes of setting it.
fn set_headers(input: &Value) -> Value {
    pairs(input)
        .map(|(name, value)| {
            let value = text(&value).as_bytes().to_vec();
            match Fields::new().append(&name, &value) {
                Ok(()) => json!("taken"),
                Err(error) => json!(format!("{error:?}")),
            }
        })
        .collect()
}

/// Whether texts that are longer than any request has them were taken, and what of the longest that are.
fn long_texts() -> Value {
    let request = OutgoingRequest::new(Fields::new());
    let text = |bytes| "A".repeat(bytes);
    let method = |bytes| request.set_method(&Method::Other(text(bytes))).is_ok();
    let methods = [method(32), method(33), method(10_000_000)];
    let authority = |bytes| request.set_authority(Some(&text(bytes))).is_ok();
    let authorities = [authority(512), authority(513), authority(10_000_000)];
    let path = |bytes: usize| {
        request
            .set_path_with_query(Some(&format!("/{}", text(bytes - 1))))
            .is_ok()
    };
    let paths = [path(8192), path(8193), path(10_000_000)];
    json!([methods, authorities, paths])
}

fn many_headers() {
    let fields = Fields::new();
    for number in 0..1_000_000 {
        let _ = fields.append(&format!("x-{number}"), &b"value".to_vec());
    }
}

fn pairs(value: &Value) -> impl Iterator<Item = (String, Value)> + '_ {
    list(value).iter().filter_map(|pair| {
        let [name, value] = list(pair) else {
            return None;
        };
        Some((text(name).to_owned(), value.clone()))
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn method(name: &str) -> Method {
    match name {
        "" | "GET" => Method::Get,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.to_owned()),
    }
}

/// The name of a kind of error, as the interface has it.
fn shown(error: &ErrorCode) -> String {
    format!("{error:?}")
}

guests::export!(Http);
