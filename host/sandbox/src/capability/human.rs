//! Asking a person: whom a guest may ask. The wait for the answer is the host's: it drops the instance meanwhile.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::narrowed::Narrowed;
use super::{Grants, TextBytes, charge_answer, charge_call};
use crate::bindings::agent::troupe::agent::human::{Answer, Question};
use crate::host_calls::Error;
use crate::state::State;
use crate::trace::{self, HostFunction};

/// The key in the workflow's `grants`.
const CAPABILITY: &str = "human";

/// The people a guest may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HumanGrant {
    /// Addresses of persons or groups, as the workflow names them; none: anybody whom the operator leaves.
    pub assignees: Option<Vec<String>>,
}

impl HumanGrant {
    fn names(&self, assignee: &String) -> bool {
        self.assignees
            .as_ref()
            .is_none_or(|granted| granted.contains(assignee))
    }
}

impl Grants {
    /// Whether a person may be asked: the workflow grants it, and the operator leaves it.
    pub(crate) fn allow_question_to(&self, assignee: &String) -> bool {
        let is_granted = self.human.as_ref().is_some_and(|it| it.names(assignee));
        is_granted && self.leaving_out(assignee).is_none()
    }

    /// Where the operator leaves a person out.
    fn leaving_out(&self, assignee: &str) -> Option<&Narrowed> {
        self.narrowed
            .iter()
            .find(|it| it.capability == CAPABILITY && !it.leaves(assignee))
    }
}

impl TextBytes for Question {
    fn text_bytes(&self) -> usize {
        self.assignees.text_bytes()
            + self.message.len()
            + self.context.text_bytes()
            + self.form.text_bytes()
    }
}

impl TextBytes for Answer {
    fn text_bytes(&self) -> usize {
        self.approved_by.text_bytes() + self.notes.text_bytes() + self.data.text_bytes()
    }
}

impl State {
    /// Checks the grant.
    fn admit_question(&mut self, question: &Question) -> wasmtime::Result<Result<(), Error>> {
        if let Err(refused) = self.host_calls.count()? {
            return Ok(Err(refused));
        }
        let Some(grant) = &self.grants.human else {
            return Ok(Err(self.deny(
                CAPABILITY,
                "",
                ("questions to people", "true"),
            )));
        };
        let mut all = question.assignees.iter();
        let Some(who) = all.find(|who| !self.grants.allow_question_to(who)) else {
            return Ok(Ok(()));
        };
        let asked = format!("questions to `{who}`");
        let by_operator = match grant.names(who) {
            true => self.grants.leaving_out(who).map(|it| it.remedy(who)),
            false => None,
        };
        Ok(Err(match by_operator {
            Some(remedy) => self.deny_with(CAPABILITY, &asked, &remedy),
            None => {
                let grant = format!("{{\"assignees\": [\"{who}\"]}}");
                self.deny(CAPABILITY, who, (&asked, &grant))
            }
        }))
    }
}

async fn ask(
    mut store: StoreContextMut<'_, State>,
    question: Question,
) -> wasmtime::Result<Result<Answer, Error>> {
    charge_call(&mut store, &question)?;
    if let Err(error) = store.data_mut().admit_question(&question)? {
        return Ok(Err(error));
    }
    let host = Arc::clone(&store.data().host);
    let answer = host.ask(question).await;
    store.data().move_clock();
    charge_answer(&mut store, answer)
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut human = linker.instance("troupe:agent/human@0.1.0")?;
    trace::link(
        &mut human,
        HostFunction::HumanAsk,
        |store, (question,): (Question,)| {
            Box::new(async move { Ok((ask(store, question).await?,)) })
        },
    )
}
