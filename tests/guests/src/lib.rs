//! What the test guests share: the bindings, straight from `wit/` and without the SDK, so that a fault in
//! the SDK does not look like one of the sandbox.
#![allow(
    clippy::all,
    clippy::mem_forget,
    unsafe_code,
    unreachable_pub,
    reason = "the code is generated: its shape is not ours"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "agent",
    pub_export_macro: true,
    default_bindings_module: "guests",
});
