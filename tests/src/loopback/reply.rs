//! What a script is written in: one value for each reply, faults included.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

/// One reply of a script. The default is the route's plain answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    pub(super) usage: Option<Value>,
    pub(super) fault: Option<Fault>,
    delay: Duration,
    gate: Option<Gate>,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    /// An answer in the route's own format.
    Answer(Content),
    /// A refusal in the route's own format.
    Refusal(String),
    /// These bytes.
    Verbatim(String),
}

/// What an answer says.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Something plain that fits the request.
    Plain,
    /// A model's text.
    Text(String),
    /// A model's wish to call functions.
    ToolCalls(Vec<(String, Value)>),
    /// A search engine's results.
    Results(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Truncated,
    Hang,
    Reset,
    ClosedMidBody,
}

impl Default for Reply {
    fn default() -> Self {
        Self::answer(Content::Plain)
    }
}

impl Reply {
    fn answer(content: Content) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Body::Answer(content),
            usage: None,
            fault: None,
            delay: Duration::ZERO,
            gate: None,
        }
    }

    /// A model's answer with this text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::answer(Content::Text(text.into()))
    }

    /// A model's answer whose text is this JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::text(value.to_string())
    }

    /// A model's answer that asks for these function calls: names and arguments.
    #[must_use]
    pub fn tool_calls(calls: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self::answer(Content::ToolCalls(
            calls
                .into_iter()
                .map(|(name, arguments)| (name.to_owned(), arguments))
                .collect(),
        ))
    }

    /// A search engine's answer with these results, a list as SearXNG writes it.
    #[must_use]
    pub fn results(results: Value) -> Self {
        Self::answer(Content::Results(results))
    }

    /// A refusal with this status, for example 429, 500 or 529.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            body: Body::Refusal(format!("scripted status {status}")),
            ..Self::default()
        }
    }

    /// These bytes with status 200, in no format.
    #[must_use]
    pub fn verbatim(body: impl Into<String>) -> Self {
        Self {
            body: Body::Verbatim(body.into()),
            ..Self::default()
        }
    }

    /// A whole HTTP answer whose JSON ends in the middle.
    #[must_use]
    pub fn truncated() -> Self {
        Self {
            fault: Some(Fault::Truncated),
            ..Self::default()
        }
    }

    /// No answer, ever, on an open connection.
    #[must_use]
    pub fn hang() -> Self {
        Self {
            fault: Some(Fault::Hang),
            ..Self::default()
        }
    }

    /// The connection is reset instead of an answer.
    #[must_use]
    pub fn reset() -> Self {
        Self {
            fault: Some(Fault::Reset),
            ..Self::default()
        }
    }

    /// The connection ends in the middle of the answer's body.
    #[must_use]
    pub fn closed_mid_body() -> Self {
        Self {
            fault: Some(Fault::ClosedMidBody),
            ..Self::default()
        }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A refusal with this message instead of the plain one.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        self.body = Body::Refusal(message.to_owned());
        self
    }

    /// With this `usage`, whatever it is; null leaves the field out.
    #[must_use]
    pub fn usage(mut self, usage: Value) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Not before this time has passed.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Not before the gate is open.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    pub(super) async fn wait(&self) {
        tokio::time::sleep(self.delay).await;
        if let Some(gate) = &self.gate {
            gate.passed().await;
        }
    }
}

/// Holds replies back until a test opens it.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self::closed()
    }
}

impl Gate {
    /// A gate that is closed.
    #[must_use]
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets all replies behind it pass, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        self.0
            .subscribe()
            .wait_for(|open| *open)
            .await
            .expect("the gate is held by its reply");
    }
}
