//! Asking a person. In this version a granted question answers that it is not available yet.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, charge_call, denied, not_available};
use crate::bindings::agent::troupe::agent::human::{Answer, Question};
use crate::host_calls::Error;
use crate::state::State;

/// That a guest may ask people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanGrant;

impl TextBytes for Question {
    fn text_bytes(&self) -> usize {
        self.assignees.text_bytes()
            + self.message.len()
            + self.context.text_bytes()
            + self.form.text_bytes()
    }
}

fn ask(
    mut store: StoreContextMut<'_, State>,
    question: &Question,
) -> wasmtime::Result<Result<Answer, Error>> {
    charge_call(&mut store, question)?;
    let state = store.data_mut();
    if let Err(refused) = state.host_calls.count()? {
        return Ok(Err(refused));
    }
    Ok(Err(match state.grants.human {
        Some(HumanGrant) => not_available("human"),
        None => denied(&state.agent, "human", "questions to people", "true"),
    }))
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut human = linker.instance("troupe:agent/human@0.1.0")?;
    human.func_wrap("ask", |store, (question,): (Question,)| {
        Ok((ask(store, &question)?,))
    })
}
