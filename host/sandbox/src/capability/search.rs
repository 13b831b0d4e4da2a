//! Search services: which sources a guest may ask.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::{TextBytes, ask_many, charge_answer, charge_call, charge_ready};
use crate::bindings::agent::troupe::agent::search::{Answer, Hit, Query, SourceError};
use crate::host_calls::Error;
use crate::state::State;
use crate::trace::{self, HostFunction};

/// The sources a guest may search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchGrant {
    /// Names as the operator configured them. A query that names none goes to all of them.
    pub sources: Vec<String>,
}

impl TextBytes for Query {
    fn text_bytes(&self) -> usize {
        self.text.len() + self.sources.text_bytes()
    }
}

impl TextBytes for Hit {
    fn text_bytes(&self) -> usize {
        self.title.len()
            + self.url.len()
            + self.snippet.len()
            + self.source.len()
            + self.published_at.text_bytes()
    }
}

impl TextBytes for SourceError {
    fn text_bytes(&self) -> usize {
        self.source.len() + self.message.len()
    }
}

impl TextBytes for Answer {
    fn text_bytes(&self) -> usize {
        self.results.text_bytes() + self.errors.text_bytes()
    }
}

impl State {
    /// Checks the grant, and names the sources where the guest did not.
    fn admit_search(&mut self, mut query: Query) -> wasmtime::Result<Result<Query, Error>> {
        if let Err(refused) = self.host_calls.count()? {
            return Ok(Err(refused));
        }
        let granted = self
            .grants
            .search
            .as_ref()
            .map_or(&[][..], |grant| &grant.sources);
        if let Some(source) = query
            .sources
            .iter()
            .find(|source| !granted.contains(source))
        {
            let grant = format!("[\"{source}\"]");
            let asked = format!("the source `{source}`");
            return Ok(Err(self.deny("search", source, (&asked, &grant))));
        }
        if query.sources.is_empty() {
            if granted.is_empty() {
                return Ok(Err(self.deny("search", "", ("search", "[\"web\"]"))));
            }
            query.sources = granted.to_vec();
        }
        Ok(Ok(query))
    }
}

async fn search(
    mut store: StoreContextMut<'_, State>,
    query: Query,
) -> wasmtime::Result<Result<Answer, Error>> {
    charge_call(&mut store, &query)?;
    let query = match store.data_mut().admit_search(query)? {
        Ok(query) => query,
        Err(error) => return Ok(Err(error)),
    };
    let host = Arc::clone(&store.data().host);
    let answer = host.search(query).await;
    store.data().move_clock();
    charge_answer(&mut store, answer)
}

async fn search_many(
    mut store: StoreContextMut<'_, State>,
    queries: Vec<Query>,
) -> wasmtime::Result<Vec<Result<Answer, Error>>> {
    charge_call(&mut store, &queries)?;
    let host = Arc::clone(&store.data().host);
    let answers = ask_many(
        queries,
        |query| store.data_mut().admit_search(query),
        |queries| host.search_many(queries),
    )
    .await?;
    store.data().move_clock();
    answers
        .into_iter()
        .map(|answer| charge_answer(&mut store, answer))
        .collect()
}

fn sources(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<Vec<String>> {
    let sources = store
        .data()
        .grants
        .search
        .as_ref()
        .map_or_else(Vec::new, |grant| grant.sources.clone());
    charge_ready(&mut store, &sources)?;
    Ok(sources)
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("troupe:agent/search@0.1.0")?;
    trace::link(
        &mut instance,
        HostFunction::SearchSearch,
        |store, (query,): (Query,)| Box::new(async move { Ok((search(store, query).await?,)) }),
    )?;
    trace::link(
        &mut instance,
        HostFunction::SearchSearchMany,
        |store, (queries,): (Vec<Query>,)| {
            Box::new(async move { Ok((search_many(store, queries).await?,)) })
        },
    )?;
    trace::link_ready(
        &mut instance,
        HostFunction::SearchSources,
        |store, (): ()| Ok((sources(store)?,)),
    )
}
