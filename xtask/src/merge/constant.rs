//! Values of constant expressions that can be told without running anything.

use anyhow::Result;
use wasm_encoder::{ConstExpr, Instruction};
use wasmparser::Operator;

/// A number that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Constant {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
}

impl Constant {
    /// The value of an expression, where it is a number and follows from known globals.
    pub(super) fn of(
        expression: &wasmparser::ConstExpr<'_>,
        global: impl Fn(u32) -> Option<Constant>,
    ) -> Result<Option<Constant>> {
        let mut stack = Vec::new();
        let mut reader = expression.get_operators_reader();
        while !reader.is_end_then_eof() {
            let value = match reader.read()? {
                Operator::I32Const { value } => Some(Constant::I32(value)),
                Operator::I64Const { value } => Some(Constant::I64(value)),
                Operator::F32Const { value } => Some(Constant::F32(value.bits())),
                Operator::F64Const { value } => Some(Constant::F64(value.bits())),
                Operator::GlobalGet { global_index } => global(global_index),
                Operator::I32Add => two(&mut stack, i32::wrapping_add),
                Operator::I32Sub => two(&mut stack, i32::wrapping_sub),
                Operator::I32Mul => two(&mut stack, i32::wrapping_mul),
                _ => None,
            };
            match value {
                Some(value) => stack.push(value),
                None => return Ok(None),
            }
        }
        Ok(match stack[..] {
            [value] => Some(value),
            _ => None,
        })
    }

    /// The instruction that makes the number.
    pub(super) fn instruction(self) -> Instruction<'static> {
        match self {
            Constant::I32(value) => Instruction::I32Const(value),
            Constant::I64(value) => Instruction::I64Const(value),
            Constant::F32(bits) => Instruction::F32Const(wasm_encoder::Ieee32::new(bits)),
            Constant::F64(bits) => Instruction::F64Const(wasm_encoder::Ieee64::new(bits)),
        }
    }

    /// The constant expression that makes the number.
    pub(super) fn expression(self) -> ConstExpr {
        match self {
            Constant::I32(value) => ConstExpr::i32_const(value),
            Constant::I64(value) => ConstExpr::i64_const(value),
            Constant::F32(bits) => ConstExpr::f32_const(wasm_encoder::Ieee32::new(bits)),
            Constant::F64(bits) => ConstExpr::f64_const(wasm_encoder::Ieee64::new(bits)),
        }
    }
}

fn two(stack: &mut Vec<Constant>, operation: fn(i32, i32) -> i32) -> Option<Constant> {
    match (stack.pop(), stack.pop()) {
        (Some(Constant::I32(right)), Some(Constant::I32(left))) => {
            Some(Constant::I32(operation(left, right)))
        }
        _ => None,
    }
}
