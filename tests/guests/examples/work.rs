//! A tool that computes, for measuring what the meters of fuel and time cost.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::all,
    clippy::mem_forget,
    unsafe_code,
    unreachable_pub,
    reason = "the code is generated: its shape is not ours"
)]

wit_bindgen::generate!({
    inline: "
        package test:work@0.1.0;

        world work {
            export compute: func(rounds: u32) -> u32;
        }
    ",
});

struct Work;

impl Guest for Work {
    /// So many multiplications and additions, each of which needs the one before.
    fn compute(rounds: u32) -> u32 {
        (0..rounds).fold(1, |sum: u32, round| {
            sum.wrapping_mul(31).wrapping_add(round)
        })
    }
}

export!(Work);
