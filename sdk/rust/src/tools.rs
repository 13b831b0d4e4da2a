//! Tools of the workflow: other components, HTTP services, MCP servers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::troupe::agent::tools as wit;
use crate::{Error, json};

pub use wit::Tool;

/// The tools that are granted.
///
/// # Errors
/// The host's, see [`Error`].
pub fn available() -> Result<Vec<Tool>, Error> {
    wit::available().map_err(Error::from_wit)
}

/// Calls a tool by a name from [`available`], and reads its result.
///
/// # Errors
/// The host's and the tool's, and [`Error::Unexpected`] where the result has another shape.
pub fn call<T: DeserializeOwned>(name: &str, arguments: &impl Serialize) -> Result<T, Error> {
    let result = wit::call(&request(name, arguments)?).map_err(Error::from_wit)?;
    read_result(name, &result)
}

/// Calls a tool several times at once, with the arguments of each call; the results come in their order.
///
/// # Errors
/// Of the whole: arguments that cannot be written as JSON. Of each call: as for [`call`].
pub fn call_many<T: DeserializeOwned, A: Serialize>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Vec<Result<T, Error>>, Error> {
    let requests: Vec<_> = arguments
        .into_iter()
        .map(|each| request(name, &each))
        .collect::<Result<_, _>>()?;
    let results = wit::call_many(&requests).into_iter();
    Ok(results
        .map(|result| read_result(name, &result.map_err(Error::from_wit)?))
        .collect())
}

fn request(name: &str, arguments: &impl Serialize) -> Result<wit::CallRequest, Error> {
    let arguments = json::write(&format!("the arguments of `{name}`"), arguments)?;
    Ok(wit::CallRequest {
        name: name.to_owned(),
        arguments,
    })
}

fn read_result<T: DeserializeOwned>(name: &str, result: &str) -> Result<T, Error> {
    json::read(&format!("the result of `{name}`"), result)
}
