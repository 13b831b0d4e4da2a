//! The environment: values that the operator grants, and nothing of the host's own. There are never arguments.

use serde::{Deserialize, Serialize};

/// Variables that a guest sees, in this order.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvGrant {
    /// Names and values.
    pub values: Vec<(String, String)>,
}

/// Values may be secrets of the operator's, so only the names are shown.
impl std::fmt::Debug for EnvGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.values.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}
