//! The rows of the case table: one test a row, by its number, through the running gateway.

mod d;
mod k;
mod s;
