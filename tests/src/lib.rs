//! What the end-to-end tests share: the built binary at work in a folder of its own, and a scripted server in place of
//! the outside.

pub mod loopback;
pub mod troupe;
