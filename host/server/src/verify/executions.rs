//! Looks the executions of a journal through: rows, events, values, snapshots.

use std::sync::Arc;

use troupe_journal::{ExecutionRow, ReadError};
use troupe_workflow::{Definition, Event, Execution, ExecutionId, Snapshot};

use super::{Check, DEFINITIONS_MAX, Found, PAGE};
use crate::archive::import::{check_document, check_row};

impl Check<'_> {
    pub(super) async fn executions(&mut self) {
        let mut after = None;
        loop {
            let page = match self.journal.ids(after.clone(), PAGE).await {
                Ok(page) if page.is_empty() => return,
                // A damaged id that is no text is read as another one, which may be the same for ever.
                Ok(page) if page.last() == after.as_ref() => return,
                Ok(page) => page,
                Err(error) => return self.unread("table executions", error),
            };
            for id in page {
                self.seen.executions += 1;
                match id.parse::<ExecutionId>() {
                    Err(error) => self.fault("table executions", error),
                    Ok(parsed) if self.execution(parsed).await => {
                        self.seen.whole += 1;
                        (self.tell)(Found::Whole(parsed));
                    }
                    Ok(_) => {}
                }
                after = Some(id);
            }
            (self.tell)(Found::Progress(self.seen.executions));
        }
    }

    /// Whether everything of an execution can be read and followed. A damaged snapshot is said, and counts as none.
    async fn execution(&mut self, id: ExecutionId) -> bool {
        // Before the row, so that it cannot be ahead of it.
        let snapshot = match self.journal.snapshot(id).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.unread(format!("the snapshot of {id}"), error);
                None
            }
        };
        let row = match self.journal.find(id).await {
            Ok(row) => row,
            Err(ReadError::NotFound(_)) => return self.is_gone(id).await,
            Err(error) => {
                self.unread(format!("the row of {id}"), error);
                return false;
            }
        };
        let definition = match self.definition(&row).await {
            Ok(definition) => Some(definition),
            Err(message) => {
                self.fault(format!("the workflow of {id}"), message);
                None
            }
        };
        let is_whole = definition.is_some();
        let state = definition.and_then(|definition| Execution::replay(id, definition, &[]).ok());
        let mut following = Following {
            state,
            snapshot,
            ends: (None, None),
            is_whole,
        };
        self.events(&row, &mut following).await;
        if let (true, Some(state)) = (following.is_whole, &following.state) {
            let (first, last) = &following.ends;
            if let Err(error) = check_row(&row, state, (first.as_ref(), last.as_ref())) {
                self.fault(format!("the row of {id}"), error);
                return false;
            }
        }
        if !following.is_whole {
            return self.is_deleted(id).await;
        }
        if let Some(snapshot) = following.snapshot {
            let message = format!(
                "it is of event {}, and there are {}",
                snapshot.version, row.version
            );
            self.fault(format!("the snapshot of {id}"), message);
        }
        true
    }

    /// Reads the events of an execution, and every one that is damaged says so.
    async fn events(&mut self, row: &ExecutionRow, following: &mut Following) {
        let (id, mut read) = (row.id, 0);
        while read < row.version {
            let left = u32::try_from(row.version - read).unwrap_or(u32::MAX);
            let limit = left.min(PAGE);
            match self.journal.events(id, read, limit).await {
                Ok(page) if !page.is_empty() => {
                    for event in page {
                        read += 1;
                        self.follow(id, event, following);
                    }
                }
                // One of them is damaged: they are read one by one.
                Ok(_) | Err(_) => {
                    following.is_whole = false;
                    following.state = None;
                    if !self.events_one_by_one(id, (read, limit)).await {
                        return;
                    }
                    read += u64::from(limit);
                }
            }
        }
    }

    /// Whether there is any sense in reading on.
    async fn events_one_by_one(&mut self, id: ExecutionId, (after, limit): (u64, u32)) -> bool {
        let mut has_any = false;
        for position in after..after + u64::from(limit) {
            let place = format!("event {} of {id}", position + 1);
            match self.journal.events(id, position, 1).await {
                Ok(page) if page.is_empty() => {
                    self.fault(place, "it is missing, and all behind it");
                    return false;
                }
                Ok(_) => has_any = true,
                Err(ReadError::NotFound(_)) => return false,
                Err(error) => {
                    has_any |= matches!(error, ReadError::Corrupt { .. });
                    self.unread(place, error);
                }
            }
        }
        has_any
    }

    fn follow(&mut self, id: ExecutionId, event: Event, following: &mut Following) {
        let Some(state) = &mut following.state else {
            return;
        };
        if let Err(error) = state.apply(&event) {
            let place = format!("event {} of {id}", state.version() + 1);
            following.is_whole = false;
            following.state = None;
            return self.fault(place, error);
        }
        let version = state.version();
        if let Some(snapshot) = following
            .snapshot
            .take_if(|snapshot| snapshot.version == version)
            && snapshot.build == Snapshot::BUILD
            && !state
                .snapshot()
                .is_ok_and(|own| own.state == snapshot.state)
        {
            let message = format!("it is not what the first {version} events lead to");
            self.fault(format!("the snapshot of {id}"), message);
        }
        if following.ends.0.is_none() {
            following.ends.0 = Some(event.clone());
        }
        following.ends.1 = Some(event);
    }

    async fn definition(&mut self, row: &ExecutionRow) -> Result<Arc<Definition>, String> {
        if let Some(known) = self.definitions.get(&row.digest) {
            return Ok(Arc::clone(known));
        }
        let document = self.journal.document(row.digest.clone()).await;
        let document = document.map_err(|error| error.to_string())?;
        let definition = check_document(&document).map_err(|error| format!("{error:#}"))?;
        if self.definitions.len() >= DEFINITIONS_MAX {
            self.definitions.clear();
        }
        self.definitions
            .insert(row.digest.clone(), Arc::clone(&definition));
        Ok(definition)
    }

    /// For an execution whose row is not to be found: false, and a fault unless somebody deleted it meanwhile.
    async fn is_gone(&mut self, id: ExecutionId) -> bool {
        let listed = self.journal.ids(None, 1).await.is_ok() && self.is_listed(id).await;
        if listed {
            self.fault(
                format!("the row of {id}"),
                "it is listed, and cannot be found",
            );
        } else {
            self.seen.executions -= 1;
        }
        false
    }

    async fn is_listed(&self, id: ExecutionId) -> bool {
        let text = id.to_string();
        // The text before it: its last letter taken away.
        let before = text.get(..text.len() - 1).map(str::to_owned);
        let page = self.journal.ids(before, PAGE).await.unwrap_or_default();
        page.contains(&text)
    }

    /// For an execution that is not whole: somebody may have deleted it while it was read.
    async fn is_deleted(&mut self, id: ExecutionId) -> bool {
        if let Err(ReadError::NotFound(_)) = self.journal.find(id).await {
            self.seen.executions -= 1;
        }
        false
    }
}

/// How far an execution was followed.
struct Following {
    /// None: it cannot be followed any further.
    state: Option<Execution>,
    /// Until its event comes.
    snapshot: Option<Snapshot>,
    /// The first event and the last.
    ends: (Option<Event>, Option<Event>),
    is_whole: bool,
}
