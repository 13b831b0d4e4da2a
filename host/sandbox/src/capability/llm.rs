//! Language models: which of them a guest may name.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, ask_many, charge_answer, charge_call, charge_ready};
use crate::bindings::agent::troupe::agent::llm::{
    Completion, Message, Request, ToolCall, ToolDefinition,
};
use crate::host_calls::Error;
use crate::state::State;
use crate::trace::{self, HostFunction};

/// The models a guest may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlmGrant {
    /// Names as the operator configured them, at least one. A request that names none goes to the first.
    pub models: Vec<String>,
}

impl TextBytes for Message {
    fn text_bytes(&self) -> usize {
        self.content.len() + self.tool_calls.text_bytes() + self.tool_call_id.text_bytes()
    }
}

impl TextBytes for ToolCall {
    fn text_bytes(&self) -> usize {
        self.id.len() + self.name.len() + self.arguments.len()
    }
}

impl TextBytes for ToolDefinition {
    fn text_bytes(&self) -> usize {
        self.name.len() + self.description.len() + self.parameters.len()
    }
}

impl TextBytes for Request {
    fn text_bytes(&self) -> usize {
        self.model.text_bytes()
            + self.messages.text_bytes()
            + self.stop.text_bytes()
            + self.tools.text_bytes()
            + self.schema.text_bytes()
    }
}

impl TextBytes for Completion {
    fn text_bytes(&self) -> usize {
        self.text.len() + self.value.text_bytes() + self.tool_calls.text_bytes() + self.model.len()
    }
}

impl State {
    /// Checks the grant, and names the model where the guest did not.
    fn admit_completion(
        &mut self,
        mut request: Request,
    ) -> wasmtime::Result<Result<Request, Error>> {
        if let Err(refused) = self.host_calls.count()? {
            return Ok(Err(refused));
        }
        let models = self
            .grants
            .llm
            .as_ref()
            .map_or(&[][..], |grant| &grant.models);
        let model = match request.model.take() {
            Some(model) if models.contains(&model) => model,
            Some(model) => {
                let grant = format!("{{\"models\": [\"{model}\"]}}");
                let asked = format!("the model `{model}`");
                return Ok(Err(self.deny("llm", &model, (&asked, &grant))));
            }
            None => match models.first() {
                Some(first) => first.clone(),
                None => {
                    let asked = ("language models", "{\"models\": [\"…\"]}");
                    return Ok(Err(self.deny("llm", "", asked)));
                }
            },
        };
        request.model = Some(model);
        Ok(Ok(request))
    }
}

async fn complete(
    mut store: StoreContextMut<'_, State>,
    request: Request,
) -> wasmtime::Result<Result<Completion, Error>> {
    charge_call(&mut store, &request)?;
    let request = match store.data_mut().admit_completion(request)? {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    let host = Arc::clone(&store.data().host);
    let answer = host.complete(request).await;
    store.data().move_clock();
    charge_answer(&mut store, answer)
}

async fn complete_many(
    mut store: StoreContextMut<'_, State>,
    requests: Vec<Request>,
) -> wasmtime::Result<Vec<Result<Completion, Error>>> {
    charge_call(&mut store, &requests)?;
    let host = Arc::clone(&store.data().host);
    let answers = ask_many(
        requests,
        |request| store.data_mut().admit_completion(request),
        |requests| host.complete_many(requests),
    )
    .await?;
    store.data().move_clock();
    answers
        .into_iter()
        .map(|answer| charge_answer(&mut store, answer))
        .collect()
}

fn models(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<Vec<String>> {
    let models = store
        .data()
        .grants
        .llm
        .as_ref()
        .map_or_else(Vec::new, |grant| grant.models.clone());
    charge_ready(&mut store, &models)?;
    Ok(models)
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut llm = linker.instance("troupe:agent/llm@0.1.0")?;
    trace::link(
        &mut llm,
        HostFunction::LlmComplete,
        |store, (request,): (Request,)| {
            Box::new(async move { Ok((complete(store, request).await?,)) })
        },
    )?;
    trace::link(
        &mut llm,
        HostFunction::LlmCompleteMany,
        |store, (requests,): (Vec<Request>,)| {
            Box::new(async move { Ok((complete_many(store, requests).await?,)) })
        },
    )?;
    trace::link_ready(&mut llm, HostFunction::LlmModels, |store, (): ()| {
        Ok((models(store)?,))
    })
}
