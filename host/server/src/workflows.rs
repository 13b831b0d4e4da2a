//! Stored workflows: a name for documents, of which each change makes a new version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_journal::{AppendError, Document, Journal, Record, RecordWrite, WorkflowVersion};
use troupe_workflow::{Definition, Faults, Timestamp, WorkflowDigest};

use crate::clock;
use crate::operations::OperationError;
use crate::records::{Stored, find};

/// The kind of their records.
pub(crate) const KIND: &str = "workflow";

/// A stored workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredWorkflow {
    /// `wf_…`
    #[serde(skip)]
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
    pub(crate) created_at: Timestamp,
    /// The documents of its versions, the first of them that of version 1.
    pub(crate) versions: Vec<WorkflowDigest>,
}

impl Stored for StoredWorkflow {
    const KIND: &'static str = KIND;

    fn read(record: &Record) -> Result<Self, OperationError> {
        let stored: Self = serde_json::from_str(&record.body).map_err(anyhow::Error::from)?;
        Ok(Self {
            id: record.id.clone(),
            ..stored
        })
    }
}

impl StoredWorkflow {
    /// The newest version.
    pub(crate) fn version(&self) -> u32 {
        u32::try_from(self.versions.len()).unwrap_or(u32::MAX)
    }
}

/// Stores a document as version 1 of a new workflow.
pub(crate) async fn create(
    journal: &dyn Journal,
    definition: &Definition,
    mut records: Vec<RecordWrite>,
    id: String,
) -> Result<StoredWorkflow, OperationError> {
    let description = definition.document().get("description");
    let stored = StoredWorkflow {
        id,
        name: definition.name().to_owned(),
        description: description.and_then(Value::as_str).map(str::to_owned),
        created_at: clock::now(),
        versions: vec![definition.digest().clone()],
    };
    records.push(RecordWrite {
        kind: KIND,
        id: stored.id.clone(),
        expected: 0,
        due_at: None,
        body: Some(serde_json::to_string(&stored).map_err(anyhow::Error::from)?),
    });
    let document = Document {
        digest: definition.digest().clone(),
        name: definition.name().to_owned(),
        text: definition.document().to_string(),
    };
    match journal.write(vec![document], records).await {
        Ok(()) => Ok(stored),
        // Nobody else has this id.
        Err(AppendError::Unknown { source }) => {
            match find::<StoredWorkflow>(journal, &stored.id).await {
                Ok(stored) => Ok(stored),
                Err(_) => Err(AppendError::Unknown { source }.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The definition of a version; none: of the newest.
pub(crate) async fn definition(
    journal: &dyn Journal,
    stored: &StoredWorkflow,
    version: Option<u32>,
) -> Result<(Arc<Definition>, WorkflowVersion), OperationError> {
    let version = version.unwrap_or(stored.version());
    let index = usize::try_from(version).unwrap_or(0).checked_sub(1);
    let digest = index.and_then(|index| stored.versions.get(index));
    let Some(digest) = digest else {
        return Err(OperationError::Invalid(format!(
            "{} has the versions 1 to {}, not {version}",
            stored.id,
            stored.version()
        )));
    };
    let document = journal.document(digest.clone()).await?;
    let document: Value = serde_json::from_str(&document.text).map_err(anyhow::Error::from)?;
    let definition = Definition::compile(&document).map_err(OperationError::Faults)?;
    let version = WorkflowVersion {
        id: stored.id.clone(),
        version,
    };
    Ok((Arc::new(definition), version))
}

/// The same with parts of the document's `config` replaced, for one execution.
///
/// # Errors
/// The faults of `config`, with pointers that begin with `/config`.
pub(crate) fn with_config(
    definition: Arc<Definition>,
    config: Option<&Value>,
) -> Result<Arc<Definition>, OperationError> {
    let Some(config) = config.filter(|config| !config.is_null()) else {
        return Ok(definition);
    };
    let mut document = definition.document().clone();
    let mut faults = Faults::default();
    match (config.as_object(), document.as_object_mut()) {
        (Some(overrides), Some(document)) => {
            let own = document.entry("config").or_insert(Value::Null);
            if !own.is_object() {
                *own = Value::Object(serde_json::Map::new());
            }
            if let Some(own) = own.as_object_mut() {
                own.extend(overrides.clone());
            }
        }
        _ => faults.add("/config", "the overrides must be an object"),
    }
    if !faults.is_empty() {
        return Err(OperationError::Faults(faults));
    }
    let definition = Definition::compile(&document).map_err(OperationError::Faults)?;
    Ok(Arc::new(definition))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn overrides_replace_parts_of_the_config() {
        let document = json!({
            "name": "w", "agents": [], "steps": [{ "wait": { "seconds": 1 } }],
            "config": { "max_retries": 7, "timeout_ms": 5000 },
        });
        let definition = Arc::new(Definition::compile(&document).unwrap());
        let same = with_config(Arc::clone(&definition), None).unwrap();
        assert_eq!(same.digest(), definition.digest());
        let overrides = json!({ "max_retries": 1 });
        let other = with_config(Arc::clone(&definition), Some(&overrides)).unwrap();
        let expected = json!({ "max_retries": 1, "timeout_ms": 5000 });
        assert_eq!(other.document()["config"], expected);
        for wrong in [json!({ "max_retrys": 1 }), json!(3)] {
            let refused = with_config(Arc::clone(&definition), Some(&wrong));
            let Err(OperationError::Faults(faults)) = refused else {
                panic!("{wrong} is taken");
            };
            let first = faults.iter().next().unwrap();
            assert!(first.pointer.starts_with("/config"), "{first}");
        }
    }
}
