//! How many core instances a call made. wasmtime counts them for its limit and keeps the number to itself, but names it
//! where it refuses one more: so the component is made once again when the call is over, with a limit of none.

use wasmtime::Store;

use super::ending::Failed;
use crate::linked::Linked;
use crate::outcome::Outcome;
use crate::state::State;

/// The instances that a call made which ended so; none: it was given up. A component that came to life is always made of
/// the same, so it is counted once.
pub(super) async fn made(
    store: &mut Store<State>,
    linked: &Linked,
    ended: Option<&Result<Result<String, Outcome>, Failed>>,
) -> u32 {
    match ended {
        None | Some(Err(Failed::Instantiate(_))) => count(store, linked).await.unwrap_or(0),
        Some(Ok(_) | Err(Failed::Run(_))) => of_live(store, linked).await,
    }
}

/// The instances of a component that came to life in this store.
pub(super) async fn of_live(store: &mut Store<State>, linked: &Linked) -> u32 {
    if let Some(known) = linked.instances.get() {
        return *known;
    }
    match count(store, linked).await {
        Some(counted) => *linked.instances.get_or_init(|| counted),
        None => 0,
    }
}

/// Nothing of it runs that did not run before: the first instance is refused already.
async fn count(store: &mut Store<State>, linked: &Linked) -> Option<u32> {
    store.data_mut().memory.refuse_instances();
    store.limiter_async(|state| &mut state.memory);
    let refused = linked.instance.instantiate_async(store).await.err()?;
    // "resource limit exceeded: instance count too high at 3"
    let message = refused.root_cause().to_string();
    let (_, at) = message.rsplit_once("instance count too high at ")?;
    Some(at.parse::<u32>().ok()?.saturating_sub(1))
}
