//! What tests of components from registries begin with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::USER;
use crate::troupe::{Ended, Workplace};

/// A workflow with a tool and an agent that are one component.
#[must_use]
pub fn document(reference: &str) -> Value {
    json!({
        "name": "Registry",
        "agents": [
            { "id": "box", "type": "tool", "tools": [{ "name": "toolbox", "component": reference }] },
            { "id": "code", "type": "code", "component": reference },
        ],
        "steps": [
            { "id": "sum", "agent": "box", "action": "add", "input": { "a": 40, "b": 2 } },
            { "id": "third", "agent": "code", "action": "values.divide", "input": { "a": "{{ sum }}", "b": 3 } },
        ],
        "config": { "max_retries": 1, "retry_delay_ms": 1 },
    })
}

/// Runs that workflow.
pub async fn run(place: &Workplace, reference: &str) -> Ended {
    place.write("workflow.json", document(reference).to_string());
    place.troupe(["run", "workflow.json", "--json"]).end().await
}

/// The digests of the components that were added.
#[must_use]
pub fn added(place: &Workplace) -> Vec<String> {
    let files = std::fs::read_dir(place.path("data/components"));
    let files = files.into_iter().flatten().flatten();
    files
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Docker's configuration with the password for a registry.
pub fn sign_in(place: &mut Workplace, host: &str, password: &str) {
    let config = json!({ "auths": { host: { "auth": basic(password) } } });
    place.write("docker/config.json", config.to_string());
    let folder = place.path("docker");
    place.set("DOCKER_CONFIG", &folder.to_string_lossy());
}

/// [`USER`] and a password as `Authorization: Basic …` and Docker's configuration have them.
#[must_use]
pub fn basic(password: &str) -> String {
    STANDARD.encode(format!("{USER}:{password}"))
}
