//! What a user of the API does again and again: creates a workflow, runs it, waits for it.

use serde_json::{Value, json};

use super::{Request, Response, Server, until};

/// Where executions are.
pub const EXECUTIONS: &str = "/v1/orchestrate/executions";
/// Where workflows are.
pub const WORKFLOWS: &str = "/v1/orchestrate/workflows";

/// The path of an execution, and of what is done to it: `of("exec_…", "/cancel")`.
#[must_use]
pub fn of(id: &str, what: &str) -> String {
    format!("{EXECUTIONS}/{id}{what}")
}

impl Server {
    /// Stores a workflow and returns its id.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn create(&self, document: &Value) -> String {
        let created = self.post(WORKFLOWS, document).await.expect(201);
        id_of(&created)
    }

    /// Runs a stored workflow and returns the execution's id.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn run(&self, workflow: &str, inputs: &Value) -> String {
        let path = format!("{WORKFLOWS}/{workflow}/run");
        let begun = self
            .post(&path, &json!({ "inputs": inputs }))
            .await
            .expect(202);
        id_of(&begun)
    }

    /// Runs a document that is not stored, and returns the execution's id.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn run_document(&self, document: &Value, inputs: &Value) -> String {
        let body = json!({ "workflow": document, "inputs": inputs });
        let begun = self.post("/v1/orchestrate/run", &body).await.expect(202);
        id_of(&begun)
    }

    /// An execution as it is now.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn execution(&self, id: &str) -> Value {
        self.get(&of(id, "")).await.expect(200)
    }

    /// Waits until an execution is in this state.
    ///
    /// # Panics
    /// Where it is not within a minute.
    pub async fn wait_for(&self, id: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let found = until(async || {
            last = self.execution(id).await;
            (last["status"] == status).then_some(())
        });
        let found = found.await;
        assert!(
            found.is_some(),
            "{id} did not become {status}: {last:#}; the server said:\n{}",
            self.said()
        );
        last
    }

    /// Does something to an execution: `act(id, "/cancel", &json!({}))`.
    pub async fn act(&self, id: &str, what: &str, body: &Value) -> Response {
        self.send(Request::post(&of(id, what), body)).await
    }
}

/// The id of what was answered.
///
/// # Panics
/// Where it has none.
#[must_use]
#[track_caller]
pub fn id_of(answered: &Value) -> String {
    answered["id"]
        .as_str()
        .unwrap_or_else(|| panic!("it has no id: {answered:#}"))
        .to_owned()
}
